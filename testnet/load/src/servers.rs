//! What a load needs to know of its servers, and to have there, before it begins.

use std::net::SocketAddr;

use starling_etcd_proto::etcdserverpb as pb;

use crate::Error;
use crate::connection::Connection;
use crate::work;

/// Puts so many keys through one server: those that a [`crate::Work`] with as many writes and reads.
///
/// # Errors
/// The first put that fails ends it; some keys may be there.
pub async fn lay(endpoint: SocketAddr, keys: u64, value_bytes: usize) -> Result<(), Error> {
    work::lay(&Connection::open(endpoint).await?, keys, value_bytes).await
}

/// Which of these servers leads; `None` while none of them says that it does.
///
/// # Errors
/// A server that cannot be asked.
pub async fn leader(endpoints: &[SocketAddr]) -> Result<Option<SocketAddr>, Error> {
    for endpoint in endpoints {
        let connection = Connection::open(*endpoint).await?;
        let question = pb::StatusRequest {};
        let status: pb::StatusResponse = connection.ask("etcdserverpb.Maintenance/Status", &question).await?;
        if status.header.is_some_and(|header| header.member_id == status.leader) {
            return Ok(Some(*endpoint));
        }
    }
    Ok(None)
}
