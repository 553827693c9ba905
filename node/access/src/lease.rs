//! Owners of leases. Who may use a lease can delete the keys that others attached to it, so a caller with limited rights uses
//! its own only. Any node tells from the id alone whose it is: a part is drawn, the rest is a hash of that and the owner.
//! Whoever sees the ids of another owner's leases finds one in 2^28 that is also his.

use starling_types::strong::LeaseId;

/// Bits of the hash: enough that no owner finds a lease of another one that is his, too.
const HASH_BITS: u32 = 28;
/// Bits that are drawn: of 10,000 leases of an owner a new one is the same in one of 3 million draws, and is refused.
const DRAWN_BITS: u32 = 35;

/// An id of the owner's from random bits. It is positive.
pub fn draw(owner: &str, random: u64) -> LeaseId {
    id(owner, random & ((1 << DRAWN_BITS) - 1))
}

/// Whether the id is one of the owner's.
pub fn is_of(owner: &str, lease: LeaseId) -> bool {
    u64::try_from(lease).is_ok_and(|bits| id(owner, bits >> HASH_BITS) == lease)
}

fn id(owner: &str, drawn: u64) -> LeaseId {
    let mut hasher = blake3::Hasher::new_derive_key("starling 2026 owner of a lease v1");
    hasher.update(&drawn.to_be_bytes()).update(owner.as_bytes());
    let hash = hasher.finalize();
    let hash = u32::from_be_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
    // 0 is no lease.
    (drawn << HASH_BITS | u64::from(hash >> (u32::BITS - HASH_BITS))).max(1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_its_owners_alone() {
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let lease = draw("web", random);
            assert!(lease > 0 && is_of("web", lease));
            assert!(!is_of("wed", lease) && !is_of("", lease));
            assert!(!is_of("web", lease ^ 1) && !is_of("web", -lease) && !is_of("web", lease ^ (1 << 40)));
        }
    }
}
