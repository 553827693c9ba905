//! The election service.

use std::pin::Pin;

use futures::{Stream, stream};
use starling_etcd_proto::v3electionpb as pb;
use starling_etcd_proto::v3electionpb::election_server::Election;
use starling_strong::api::{EventKind, KeyValue, Keys, Revision, Watch};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::claim::{self, Claim};
use crate::convert::{key_value, unsigned, wire};
use crate::keyspace::{Keyspace, Timing};
use crate::watching::Watching;

/// Answers that may wait for a slow observer, at most. A guess.
const LEADERS_MAX: usize = 16;

/// The service.
pub struct ElectionService(pub Keyspace);

fn leader_key(leader: Option<pb::LeaderKey>) -> Result<pb::LeaderKey, Status> {
    leader.ok_or_else(|| Status::invalid_argument("\"leader\" field must be provided"))
}

#[tonic::async_trait]
impl Election for ElectionService {
    /// Waits as long as the client does.
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let asked = request.into_inner();
        let mut claim = Claim::make(&self.0, &asked.name, asked.lease, asked.value.clone()).await?;
        if claim.found.as_ref().is_some_and(|kv| kv.value != asked.value) {
            let txn = claim::say(&claim.key, claim.place, asked.value, claim.lease);
            claim::succeeded(&self.0, txn, Timing::default()).await?;
        }
        claim.turn().await?;
        let leader = pb::LeaderKey {
            name: asked.name,
            key: claim.key.clone(),
            rev: wire(claim.place),
            lease: claim.lease,
        };
        Ok(Response::new(pb::CampaignResponse { header: self.0.header(claim.made), leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let asked = request.into_inner();
        let leader = leader_key(asked.leader)?;
        let txn = claim::say(&leader.key, unsigned(leader.rev), asked.value, leader.lease);
        let (revision, still) = claim::succeeded(&self.0, txn, timing).await?;
        if !still {
            return Err(Status::unknown("election: not leader"));
        }
        Ok(Response::new(pb::ProclaimResponse { header: self.0.header(revision) }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let (revision, kv) = claim::holder(&self.0, &request.into_inner().name).await?;
        let kv = kv.ok_or_else(|| Status::unknown("election: no leader"))?;
        Ok(Response::new(pb::LeaderResponse { header: self.0.header(revision), kv: Some(key_value(kv)) }))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (observer, mut leaders) = mpsc::channel(LEADERS_MAX);
        let observing = Observing { keyspace: self.0.clone(), observer, sent: None };
        tokio::spawn(observing.run(request.into_inner().name));
        Ok(Response::new(Box::pin(stream::poll_fn(move |context| leaders.poll_recv(context)))))
    }

    /// Resigning from a leadership that was lost already succeeds, as in etcd.
    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let timing = Timing::of(request.metadata());
        let leader = leader_key(request.into_inner().leader)?;
        let txn = claim::leave(&leader.key, unsigned(leader.rev));
        let (revision, _) = claim::succeeded(&self.0, txn, timing).await?;
        Ok(Response::new(pb::ResignResponse { header: self.0.header(revision) }))
    }
}

/// Sends one observer the leaders and the values that they proclaim.
struct Observing {
    keyspace: Keyspace,
    observer: mpsc::Sender<Result<pb::LeaderResponse, Status>>,
    /// Key and revision of the last answer, so that a value that is read twice is sent once.
    sent: Option<(Vec<u8>, Revision)>,
}

/// The observer has disconnected.
struct Gone;

impl Observing {
    async fn run(mut self, name: Vec<u8>) {
        let observer = self.observer.clone();
        let ended = tokio::select! {
            failed = self.follow(&name) => failed,
            () = observer.closed() => None,
        };
        if let Some(error) = ended {
            // A disconnected observer gets no error.
            drop(observer.send(Err(error)).await);
        }
    }

    /// Runs until the observer has disconnected, or something fails.
    async fn follow(&mut self, name: &[u8]) -> Option<Status> {
        loop {
            let (revision, kv) = match claim::holder(&self.keyspace, name).await {
                Ok(holder) => holder,
                Err(error) => return Some(error),
            };
            let watched = match kv {
                Some(kv) => {
                    let keys = Keys::One(kv.key.clone());
                    if self.send(kv, revision).await.is_err() {
                        return None;
                    }
                    self.reign(keys, revision).await
                }
                None => self.vacancy(name, revision).await,
            };
            match watched {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) => return None,
                Err(error) => return Some(error),
            }
        }
    }

    /// Sends the values of a leader until its key is deleted.
    async fn reign(&mut self, keys: Keys, seen: Revision) -> Result<Result<(), Gone>, Status> {
        let watch = Watch { keys, from_revision: seen + 1, prev: false, only: None };
        let mut watching = Watching::start(&self.keyspace, watch).await?;
        while let Some(events) = watching.next().await {
            for event in events {
                if event.kind == EventKind::Delete {
                    return Ok(Ok(()));
                }
                let revision = event.kv.mod_revision;
                if self.send(event.kv, revision).await.is_err() {
                    return Ok(Err(Gone));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Waits until there is a leader.
    async fn vacancy(&mut self, name: &[u8], seen: Revision) -> Result<Result<(), Gone>, Status> {
        let watch = Watch {
            keys: claim::everybody(name),
            from_revision: seen + 1,
            prev: false,
            only: Some(EventKind::Put),
        };
        Watching::start(&self.keyspace, watch).await?.next().await;
        Ok(Ok(()))
    }

    async fn send(&mut self, kv: KeyValue, revision: Revision) -> Result<(), Gone> {
        let sent = Some((kv.key.clone(), kv.mod_revision));
        if self.sent == sent {
            return Ok(());
        }
        self.sent = sent;
        let header = self.keyspace.header(revision);
        let leader = pb::LeaderResponse { header, kv: Some(key_value(kv)) };
        self.observer.send(Ok(leader)).await.map_err(|_| Gone)
    }
}
