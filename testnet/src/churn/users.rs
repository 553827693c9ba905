//! Users: clients that put and get in turn, to see how available the network is to them. Of an eventual and of a strong keyspace,
//! there are users that go to their home alone, and users whose client goes to other nodes and retries where the home fails.

use std::time::Duration;

use starling_api::strong::{CreateKeyspace, Write};
use starling_api::{ErrorCode, Precondition};
use starling_client::{Client, Keyspace, Named, Retries};
use starling_sim::scenario::{Users as Settings, homes, voters};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::fleet::{BOOTSTRAP, Fleet};
use crate::error::{Error, Result};
use crate::network::wait_until;
use crate::relay::Member;

/// The eventual keyspace of users.
const EVENTUAL: &str = "users";
/// The strong keyspace of users, and of an application.
pub const STRONG: &str = "strong-users";
/// Nodes that a user with fallback knows, its home among them.
const KNOWN: usize = 3;
/// The strong keyspace has to serve within this time.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// What a user uses, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    is_strong: bool,
    falls_back: bool,
}

/// All kinds, with the names of their puts and gets.
const KINDS: [(Kind, [&str; 2]); 4] = [
    (Kind { is_strong: false, falls_back: false }, ["eventual put, one node", "eventual get, one node"]),
    (Kind { is_strong: false, falls_back: true }, ["eventual put, fallback", "eventual get, fallback"]),
    (Kind { is_strong: true, falls_back: false }, ["strong write, one node", "strong read, one node"]),
    (Kind { is_strong: true, falls_back: true }, ["strong write, retried", "strong read, retried"]),
];

/// One user.
struct User {
    number: usize,
    home: Member,
    kind: Kind,
    names: [&'static str; 2],
    settings: Settings,
    /// The addresses by which its client reaches nodes, the home's first, and that client.
    client: Option<(Vec<String>, Client)>,
}

/// Creates the users' strong keyspace, its voters in as many zones as possible, and waits until it serves.
pub async fn create(fleet: &Fleet, settings: &Settings) -> Result<()> {
    if settings.voters == 0 {
        return Ok(());
    }
    let seats = fleet.seats();
    let on = voters(&fleet.places(), usize::from(settings.voters));
    let on = on.into_iter().map(|replica| seats[BOOTSTRAP + 1 + replica].id.clone()).collect();
    let create = CreateKeyspace { name: STRONG.into(), voters: settings.voters, on, manual: false };
    let client = seats.last().and_then(|seat| seat.client.clone());
    let client = client.ok_or_else(|| Error::Broken("no node runs".into()))?;
    wait_until("the users' strong keyspace serves", DEADLINE, POLL, async || {
        let created = match client.create_keyspace(&create).await {
            Err(error) if error.code != ErrorCode::Conflict => return Ok(Some(error.to_string())),
            _ => Keyspace::new(client.clone(), STRONG).put("ready", "yes").await,
        };
        Ok(created.err().map(|error| error.to_string()))
    })
    .await
    .map(drop)
}

/// Lets users work until this is dropped.
pub async fn run(fleet: &Fleet, settings: Option<&Settings>) -> Result<()> {
    let Some(settings) = settings else { return std::future::pending().await };
    let homes = homes(&fleet.places(), settings.count);
    let kinds = KINDS.into_iter().filter(|(kind, _)| settings.voters > 0 || !kind.is_strong);
    let mut users = JoinSet::new();
    for (at, (kind, names)) in kinds.enumerate() {
        for (user, replica) in homes.iter().enumerate() {
            let (number, home) = (at * homes.len() + user, BOOTSTRAP + 1 + replica);
            let user = User { number, home, kind, names, settings: *settings, client: None };
            users.spawn(user.run(fleet.clone()));
        }
    }
    match users.join_next().await {
        Some(Err(error)) => Err(Error::Broken(format!("a user ended: {error}"))),
        Some(Ok(error)) => Err(error),
        None => std::future::pending().await,
    }
}

impl User {
    /// Goes on until it is dropped, or cannot work.
    async fn run(mut self, fleet: Fleet) -> Error {
        let patience = Duration::from_secs_f64(self.settings.patience_ms / 1e3);
        let pause = Duration::from_secs_f64(self.settings.pause_ms / 1e3);
        for operation in 0u64.. {
            let client = match self.client(&fleet, patience) {
                Ok(client) => client,
                Err(source) => return Error::Api { name: format!("user {}", self.number), source },
            };
            let start = fleet.history().now();
            let puts = operation.is_multiple_of(2);
            let answer = timeout(patience, self.operate(&client, puts, patience)).await;
            let end = fleet.history().now();
            let name = self.names[usize::from(!puts)];
            let span = [start, end].map(|at| at.as_micros() as u64);
            fleet.availabilities().note(self.number, name, span, matches!(answer, Ok(Ok(()))));
            sleep(pause).await;
        }
        Error::Broken("a user has counted to its end".into())
    }

    /// A client of the home, and of the nodes after it if the user falls back to them. A node that does not run has the address
    /// that it had last.
    fn client(
        &mut self,
        fleet: &Fleet,
        patience: Duration,
    ) -> std::result::Result<Client, starling_api::Error> {
        let seats = fleet.seats();
        let replicas = seats.len() - 1;
        let known = if self.kind.falls_back { KNOWN.min(replicas) } else { 1 };
        let member = |step: usize| BOOTSTRAP + 1 + (self.home - BOOTSTRAP - 1 + step) % replicas;
        let urls: Vec<String> = (0..known).map(|step| seats[member(step)].url.clone()).collect();
        if let Some((known, client)) = &self.client
            && *known == urls
        {
            return Ok(client.clone());
        }
        let client = if self.kind.falls_back {
            let retries = Retries { deadline: patience, ..Retries::default() };
            let client = fleet.access().client(urls.iter().map(String::as_str))?;
            client.with_retries(retries).with_timeout(patience / KNOWN as u32)
        } else {
            fleet.access().client_of_one(&urls[0])?.with_timeout(patience)
        };
        self.client = Some((urls, client.clone()));
        Ok(client)
    }

    async fn operate(
        &self,
        client: &Client,
        puts: bool,
        patience: Duration,
    ) -> std::result::Result<(), starling_api::Error> {
        let key = format!("user{}", self.number);
        let keyspace = Keyspace::new(client.clone(), STRONG);
        match (self.kind.is_strong, puts) {
            (false, true) => client
                .put(EVENTUAL, key.as_bytes(), b"value".to_vec(), None, &Precondition::Any)
                .await
                .map(drop),
            (false, false) => client.get_raw(EVENTUAL, key.as_bytes()).await.map(drop),
            (true, true) => {
                let patience = if self.kind.falls_back { patience } else { Duration::ZERO };
                let put = starling_api::strong::Put::new(key.into_bytes(), b"value".to_vec());
                let how = Named { patience, ..Named::default() };
                keyspace.write(Write::Put(put), &how).await.map(drop).map_err(starling_api::Error::from)
            }
            (true, false) => keyspace.get(key.as_bytes()).await.map(drop),
        }
    }
}
