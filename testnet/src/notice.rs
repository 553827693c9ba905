//! How long neighbours of a node that failed keep it in their views.

use std::time::{Duration, Instant};

use futures::future;
use starling_client::Client;

use crate::states::active_ids;

/// A neighbour of a failed node is asked for its view so often: the resolution of the result.
const POLL: Duration = Duration::from_millis(20);
/// A failure that was not noticed within this time is not counted any more.
const DEADLINE: Duration = Duration::from_secs(30);
/// A neighbour must answer within this time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// What came of watching a neighbour of a failed node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// It dropped the failed node, this long after the failure.
    After(Duration),
    /// It stopped answering itself.
    WatcherFailed,
    /// The failed node was back before, or it took too long.
    Never,
}

/// The time from `began`, when the node with this id failed, until the last of its neighbours dropped it. `None` if
/// one of them did not in time, or the node was back before. Neighbours that fail too notice nothing.
pub async fn noticed(
    id: &str,
    neighbours: Vec<Client>,
    began: Instant,
    is_back: impl Fn() -> bool,
) -> Option<Duration> {
    let notices = neighbours.iter().map(|client| notice(id, client, began, &is_back));
    let notices = future::join_all(notices).await;
    if notices.contains(&Notice::Never) {
        return None;
    }
    let times = notices.iter().filter_map(|notice| match notice {
        Notice::After(time) => Some(*time),
        Notice::WatcherFailed | Notice::Never => None,
    });
    times.max()
}

async fn notice(id: &str, neighbour: &Client, began: Instant, is_back: impl Fn() -> bool) -> Notice {
    while began.elapsed() < DEADLINE {
        let Ok(Ok(peers)) = tokio::time::timeout(ANSWER_DEADLINE, neighbour.peers()).await else {
            return Notice::WatcherFailed;
        };
        if !active_ids(&peers).contains(id) {
            return Notice::After(began.elapsed());
        }
        if is_back() {
            return Notice::Never;
        }
        tokio::time::sleep(POLL).await;
    }
    Notice::Never
}
