//! The trace: one hash over everything that happened, in order.

/// A running 128-bit hash of events. Not cryptographic: it tells two runs apart, nobody attacks it.
#[derive(Clone, Copy, Debug)]
pub struct Trace(u128);

/// Odd, from the digits of pi: spreads every input bit over the state.
const MULTIPLIER: u128 = 0x243F_6A88_85A3_08D3_1319_8A2E_0370_7345;

impl Trace {
    /// Before the first event.
    pub fn new() -> Self {
        Self(0x6A09_E667_F3BC_C908_BB67_AE85_84CA_A73B)
    }

    /// Adds one event's numbers.
    pub fn add(&mut self, kind: u64, time: u64, subject: u64) {
        for word in [kind ^ (subject << 8), time] {
            self.0 = (self.0 ^ u128::from(word)).wrapping_mul(MULTIPLIER);
            self.0 ^= self.0 >> 67;
        }
    }

    /// Hexadecimal, as reports show it.
    pub fn hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_every_number_count() {
        let of = |events: &[(u64, u64, u64)]| {
            let mut trace = Trace::new();
            for &(kind, time, subject) in events {
                trace.add(kind, time, subject);
            }
            trace.hex()
        };
        let base = of(&[(1, 2, 3), (2, 2, 4)]);
        assert_eq!(base.len(), 32);
        for other in [
            of(&[(2, 2, 4), (1, 2, 3)]),
            of(&[(1, 2, 3), (2, 2, 5)]),
            of(&[(1, 2, 3), (2, 3, 4)]),
            of(&[(1, 2, 3), (3, 2, 4)]),
            of(&[(1, 2, 3)]),
        ] {
            assert_ne!(base, other);
        }
    }
}
