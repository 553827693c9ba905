//! A link that carries progress is kept: while bytes of a peer's large message arrive, the receiver does not suspect the
//! peer.

/// A node suspects a running, reachable peer.
pub fn check(peer: usize, carries_progress: bool) -> Result<(), String> {
    if carries_progress {
        return Err(format!("node {peer} is suspected while its bytes arrive"));
    }
    Ok(())
}
