//! An application with an instance in each region, to measure how long another instance takes to take over from one that fails.
//!
//! *Active-passive*: the instances stand in one line of the users' strong keyspace; the first one serves, and proves it with fenced
//! writes. *Active-active*: every instance serves, each through its own node, in an eventual keyspace; each region has a client, which
//! goes on to the next instance when the one that it uses does not answer. An instance is on the machine of its node, and fails with it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::select_all;
use starling_api::Precondition;
use starling_api::strong::{Fence, Put, Write};
use starling_client::{Client, Keyspace, Named, Turn};
use starling_report::{Summary, Takeover};
use starling_sim::scenario::{App, AppKind, homes};
use tokio::time::{sleep, timeout};

use super::fleet::{BOOTSTRAP, Failed, Fleet, State};
use super::users::STRONG;
use crate::error::{Error, Result};
use crate::relay::Member;

/// The line in which instances stand, and the key that the first one writes.
const LINE: &[u8] = b"app";
const BEAT_KEY: &[u8] = b"app-beat";
/// The eventual keyspace of instances that all serve.
const EVENTUAL: &str = "app";
/// Between two requests of a client, or two writes of the instance that serves: the resolution of the result.
const BEAT: Duration = Duration::from_millis(50);
/// How often it is looked whether an instance's node runs.
const POLL: Duration = Duration::from_millis(20);
/// A request that is not answered within this time has failed, and the client goes on to the next instance.
const PATIENCE: Duration = Duration::from_millis(500);

/// The instance that served last, and when.
#[derive(Debug, Default)]
struct Served(Option<(Member, Instant)>);

impl Served {
    /// An instance has served now. If another one did before, this one has taken over since.
    fn note(&mut self, fleet: &Fleet, instance: Member) {
        if let Some((before, last)) = self.0.replace((instance, Instant::now()))
            && before != instance
        {
            fleet.note_takeover(before, last);
        }
    }
}

/// Lets the application work until this is dropped.
pub async fn run(fleet: &Fleet, app: Option<&App>) -> Result<()> {
    let Some(app) = app else { return std::future::pending().await };
    let homes = homes(&fleet.places(), app.instances);
    let instances: Vec<Member> = homes.into_iter().map(|home| BOOTSTRAP + 1 + home).collect();
    let served = RefCell::default();
    let work = |(at, instance): (usize, &Member)| match app.kind {
        AppKind::ActivePassive => stand_by(fleet, &served, *instance, app.ttl_ms).boxed_local(),
        AppKind::ActiveActive => {
            // A client of each region begins with the instance there.
            let mut order = instances.clone();
            order.rotate_left(at);
            use_one(fleet, order).boxed_local()
        }
    };
    let (error, ..) = select_all(instances.iter().enumerate().map(work)).await;
    Err(error)
}

/// The takeovers, by what the instance before had suffered.
pub fn report(fleet: &Fleet, app: Option<&App>) -> Vec<Takeover> {
    let Some(app) = app else { return Vec::new() };
    let takeovers = fleet.takeovers();
    let row = |failed: Failed| {
        let took = takeovers.iter().filter(|takeover| takeover.0 == failed).map(|takeover| takeover.1);
        Takeover {
            what: format!("{}, {}", app.kind.name(), failed.name()),
            ttl_ms: (app.kind == AppKind::ActivePassive).then_some(app.ttl_ms),
            took: Summary::of(&took.collect::<Vec<_>>()),
        }
    };
    Failed::ALL.map(row).into_iter().filter(|takeover| takeover.took.count > 0).collect()
}

/// One instance of an active-passive application, again each time that its node runs.
async fn stand_by(fleet: &Fleet, served: &RefCell<Served>, instance: Member, ttl_ms: u64) -> Error {
    loop {
        let keyspace = Keyspace::new(running(fleet, instance).await, STRONG);
        tokio::select! {
            // Without a majority it stands in line again, until there is one.
            () = serve(fleet, served, instance, &keyspace, ttl_ms) => sleep(BEAT).await,
            () = fails(fleet, instance) => {}
        }
    }
}

/// Waits for its turn, and then writes until the turn is lost.
async fn serve(
    fleet: &Fleet,
    served: &RefCell<Served>,
    instance: Member,
    keyspace: &Keyspace<Client>,
    ttl_ms: u64,
) {
    let Ok(mut turn) = Turn::wait(keyspace, LINE, instance.to_string(), ttl_ms).await else { return };
    let how =
        Named { fence: Some(Fence { lock: LINE.to_vec(), token: turn.place.token }), ..Named::default() };
    let beats = async {
        loop {
            let put = Write::Put(Put::new(BEAT_KEY.to_vec(), instance.to_string()));
            if matches!(timeout(PATIENCE, keyspace.write(put, &how)).await, Ok(Ok(_))) {
                served.borrow_mut().note(fleet, instance);
            }
            sleep(BEAT).await;
        }
    };
    tokio::select! {
        () = beats => {}
        _ = turn.lost() => {}
    }
}

/// A client of an active-active application. It keeps to one instance while that answers.
async fn use_one(fleet: &Fleet, order: Vec<Member>) -> Error {
    let mut served = Served::default();
    let mut used = fleet.access().client_of_one(&fleet.seat(order[0]).url);
    for request in order.iter().cycle() {
        let instance = *request;
        loop {
            // An instance that does not run is asked where it ran last, as by a client that cannot know.
            let url = fleet.seat(instance).url;
            if used.as_ref().is_ok_and(|client| client.url() != url) {
                used = fleet.access().client_of_one(&url);
            }
            let client = match &used {
                Ok(client) => client,
                Err(source) => return Error::Api { name: "a client".into(), source: source.clone() },
            };
            let any = Precondition::Any;
            let put = client.put(EVENTUAL, b"beat", b"value".to_vec(), None, &any);
            if !matches!(timeout(PATIENCE, put).await, Ok(Ok(_))) {
                break;
            }
            served.note(fleet, instance);
            sleep(BEAT).await;
        }
        // All may be down.
        sleep(POLL).await;
    }
    Error::Broken("an application without instances".into())
}

/// A client of a node, as soon as it runs.
async fn running(fleet: &Fleet, member: Member) -> Client {
    loop {
        let seat = fleet.seat(member);
        if let (State::Up, Some(client)) = (seat.state, seat.client) {
            return client;
        }
        sleep(POLL).await;
    }
}

/// Waits until a node does not run any more.
async fn fails(fleet: &Fleet, member: Member) {
    while fleet.seat(member).state == State::Up {
        sleep(POLL).await;
    }
}
