//! A network between processes that can be slowed, made lossy and cut, without the kernel's help.
//!
//! Every process has an address of the relay, which it tells its peers instead of its own; so every
//! connection passes through here. The relay learns from the kernel which process dialed, of another machine by
//! the agent there, and treats each direction between two processes by rules of their own, which may change while bytes flow.
//!
//! What is emulated is a TCP connection as its two ends see it over such a path: bytes come late, in
//! order and complete; a lost packet is a retransmission, during which everything behind it waits; a cut
//! path is silence, also for the end of a connection. What is not: congestion control, and the growing
//! pauses between a kernel's retransmissions, so that traffic goes on at once when a cut is healed.
//! Datagrams (QUIC) are not relayed.

pub mod dialer;
mod pump;
mod shape;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use shape::Conditions;

use crate::error::{Error, Result};
use crate::hosts::Hosts;

/// A connection whose far end is out of reach is given up after this time, as the nodes themselves do
/// (`p2p`, `CONNECT_TIMEOUT`).
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A process that dials before the relay was told of it is looked for so often, and for so long.
const DIALER_POLL: Duration = Duration::from_millis(10);
const DIALER_DEADLINE: Duration = Duration::from_secs(2);

/// Why there is no relay between machines.
const NO_ADDRESS: &str = "the scenario's links need the relay: write where the hosts reach this machine into the file of \
                          hosts, as  relay = \"ADDRESS\"";

/// A process of the network, by the order in which it was added.
pub type Member = usize;

/// The relay. It runs on a thread of its own, so that a busy measurement does not delay bytes. Dropping
/// it closes every connection.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    /// Where it listens.
    address: Ipv4Addr,
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    table: watch::Sender<Table>,
    seed: u64,
    connections: AtomicU64,
    /// The machines of the processes. Not held: their agents end with the network, whatever is still connected here.
    hosts: Weak<Hosts>,
}

/// Who is where, and how each direction is.
#[derive(Debug, Default)]
struct Table {
    members: Vec<Option<Place>>,
    /// By the sending member, then by the receiving one.
    conditions: Vec<Vec<Conditions>>,
}

/// Where a member runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    pid: u32,
    listens: SocketAddr,
}

impl Relay {
    /// A relay without members, on this machine or between machines. `seed` is of every delay it draws.
    pub fn start(seed: u64, hosts: Option<&Arc<Hosts>>) -> Result<Self> {
        let address = match hosts {
            Some(hosts) => hosts.relay().ok_or_else(|| Error::Unsupported(NO_ADDRESS.into()))?,
            None => Ipv4Addr::LOCALHOST,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("relay")
            .enable_all()
            .build()
            .map_err(|e| Error::Unsupported(format!("cannot start the relay's thread: {e}")))?;
        let shared = Shared {
            table: watch::Sender::new(Table::default()),
            seed,
            connections: AtomicU64::new(0),
            hosts: hosts.map(Arc::downgrade).unwrap_or_default(),
        };
        Ok(Self { shared: Arc::new(shared), address, runtime: Some(runtime) })
    }

    /// Adds a member, with perfect links to all others, and returns it with the address where its peers
    /// reach it.
    pub fn add(&self) -> Result<(Member, SocketAddr)> {
        let failed = |e| Error::Unsupported(format!("cannot open a port for the relay: {e}"));
        let listener = StdListener::bind((self.address, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = self.runtime.as_ref().expect("it lives until the relay is dropped");
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let mut member = 0;
        self.shared.table.send_modify(|table| member = table.add());
        runtime.spawn(accept(Arc::clone(&self.shared), member, listener));
        Ok((member, address))
    }

    /// Says where a member runs now. Until then, and after [`Self::ended`], its peers are refused.
    pub fn runs(&self, member: Member, pid: u32, listens: SocketAddr) {
        self.shared.table.send_modify(|table| table.members[member] = Some(Place { pid, listens }));
    }

    /// Says that a member's process has ended.
    pub fn ended(&self, member: Member) {
        self.shared.table.send_modify(|table| table.members[member] = None);
    }

    /// Changes any directions: `change` is called with the sender, the receiver, and the conditions
    /// between them, which count for every byte that arrives at the relay from now on; a cut also holds
    /// up the bytes that are under way.
    pub fn change(&self, mut change: impl FnMut(Member, Member, &mut Conditions)) {
        self.shared.table.send_modify(|table| {
            for (from, row) in table.conditions.iter_mut().enumerate() {
                for (to, conditions) in row.iter_mut().enumerate() {
                    change(from, to, conditions);
                }
            }
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Table {
    fn add(&mut self) -> Member {
        let member = self.members.len();
        self.members.push(None);
        self.conditions.iter_mut().for_each(|row| row.push(Conditions::default()));
        self.conditions.push(vec![Conditions::default(); member + 1]);
        member
    }

    /// The member that is this process of the machine at this address.
    fn member_at(&self, address: IpAddr, pid: u32) -> Option<Member> {
        let is_it = |place: &Place| place.pid == pid && place.listens.ip() == address;
        self.members.iter().position(|place| place.as_ref().is_some_and(is_it))
    }

    fn processes(&self) -> Vec<(Member, u32)> {
        let places = self.members.iter().enumerate();
        places.filter_map(|(member, place)| Some((member, place.as_ref()?.pid))).collect()
    }
}

async fn accept(shared: Arc<Shared>, member: Member, listener: TcpListener) {
    loop {
        // Out of file descriptors: those who dial try again.
        let Ok((stream, _)) = listener.accept().await else {
            sleep(DIALER_POLL).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Some(from) = dialer_of(&shared, &stream).await {
                connect(&shared, from, member, stream).await;
            }
        });
    }
}

/// Which member dialed. None if none of them did, or if it has already gone.
async fn dialer_of(shared: &Shared, stream: &TcpStream) -> Option<Member> {
    let (dialer, own) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let deadline = Instant::now() + DIALER_DEADLINE;
    while Instant::now() < deadline {
        let host = shared.hosts.upgrade().and_then(|hosts| hosts.at(dialer.ip()).cloned());
        let found = if let Some(host) = host {
            let pid = host.dialer(dialer, own).await;
            pid.and_then(|pid| shared.table.borrow().member_at(dialer.ip(), pid))
        } else {
            let processes = shared.table.borrow().processes();
            let find = move || dialer::find(Path::new("/proc"), dialer, own, &processes);
            tokio::task::spawn_blocking(find).await.ok()?
        };
        if found.is_some() {
            return found;
        }
        sleep(DIALER_POLL).await;
    }
    None
}

/// Joins a connection of `from` to `to` itself, one round trip later, as the handshake of TCP takes.
async fn connect(shared: &Shared, from: Member, to: Member, near: TcpStream) {
    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
    let mut random = [ChaCha8Rng::seed_from_u64(shared.seed), ChaCha8Rng::seed_from_u64(shared.seed)];
    random[0].set_stream(2 * number);
    random[1].set_stream(2 * number + 1);
    let there = pump::Direction { table: shared.table.subscribe(), from, to };
    let back = pump::Direction { table: shared.table.subscribe(), from: to, to: from };
    let open = async {
        sleep(there.delay(&mut random[0]) + back.delay(&mut random[1])).await;
        there.open().await;
        back.open().await;
        let place = shared.table.borrow().members[to]?;
        TcpStream::connect(place.listens).await.ok()
    };
    let Ok(Some(far)) = timeout(CONNECT_DEADLINE, open).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let [random_there, random_back] = random;
    tokio::join!(
        pump::run(there, near_in, far_out, random_there),
        pump::run(back, far_in, near_out, random_back)
    );
}
