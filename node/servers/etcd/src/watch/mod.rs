//! The watch service: many watches on one stream.

mod progress;
mod split;
mod stream;
mod watcher;

use std::pin::Pin;

use futures::Stream;
use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::watch_server::Watch;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::keyspace::Keyspace;

/// Answers that may wait for a slow client, at most. A guess: enough to fill a frame.
const ANSWERS_MAX: usize = 16;

/// The service.
pub struct WatchService(pub Keyspace);

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (client, mut answers) = mpsc::channel(ANSWERS_MAX);
        // Set by `WithRequireLeader` of etcd's Go client.
        let needs_leader = request.metadata().get("hasleader").is_some_and(|value| value == "true");
        tokio::spawn(stream::serve(self.0.clone(), client, request.into_inner(), needs_leader));
        Ok(Response::new(Box::pin(futures::stream::poll_fn(move |context| answers.poll_recv(context)))))
    }
}
