//! Names of sibling sets.

use crate::{Dot, Version};

/// The name of the set of `dots`, in any order: the first 8 bytes of blake3 over them.
pub(crate) fn version_of(dots: &mut [Dot]) -> Version {
    dots.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for dot in dots {
        hasher.update(&dot.actor.0);
        hasher.update(&dot.seq.to_le_bytes());
    }
    let mut short = [0; 8];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Version(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ActorId;

    #[test]
    fn order_does_not_matter() {
        let (a, b) = (Dot { actor: ActorId([1; 16]), seq: 7 }, Dot { actor: ActorId([2; 16]), seq: 3 });
        let version = version_of(&mut [a, b]);
        assert_eq!(version, version_of(&mut [b, a]));
        assert_ne!(version, version_of(&mut [a]));
        assert_eq!(version.to_string().parse(), Ok(version));
    }
}
