//! Places for connections from outside that have not proved yet to know the network's secret. Anybody can open any number of
//! them, so each address has a share, and so has each block of addresses: a newcomer always gets a place, and the oldest
//! connection of whoever has the most has to make room for it. Addresses of members have places of their own.
//!
//! A connection is counted twice in a row: here while it is encrypted and multiplexed ([`Admission`], before libp2p reports
//! it), and then by the behaviour until its handshake has ended.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    future::{AbortHandle, Abortable, BoxFuture},
};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent},
    },
    multiaddr::Protocol,
};

/// Members that are remembered, at most. A guess: as many as a node has links.
const MEMBERS_MAX: usize = 256;

/// The address at the other end; that of a relay or a name is unspecified.
pub(crate) fn ip(address: &Multiaddr) -> IpAddr {
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    });
    ip.map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |ip| ip.to_canonical())
}

/// What one customer of a network provider has: an IPv4 address, or a /64.
pub(crate) type Host = (bool, u128);

/// The host of an address.
pub(crate) fn host(ip: IpAddr) -> Host {
    block(ip, 0, 64)
}

/// A /24 or /48.
fn net(ip: IpAddr) -> (bool, u128) {
    block(ip, 8, 80)
}

fn block(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (true, u128::from(ip.to_bits() >> v4_bits)),
        IpAddr::V6(ip) => (false, ip.to_bits() >> v6_bits),
    }
}

/// Members that were here, the last one at the end; at most [`MEMBERS_MAX`].
#[derive(Debug)]
pub(crate) struct Members<T>(VecDeque<T>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq> Members<T> {
    /// Remembers a member, in the place of the one that was here longest ago.
    pub(crate) fn note(&mut self, member: T) {
        self.0.retain(|known| *known != member);
        if self.0.len() == MEMBERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(member);
    }

    pub(crate) fn contains(&self, member: &T) -> bool {
        self.0.contains(member)
    }
}

/// A bounded number of places, oldest first.
#[derive(Debug)]
pub(crate) struct Places<K> {
    max: usize,
    held: VecDeque<(K, IpAddr)>,
}

impl<K: PartialEq> Places<K> {
    /// No place is taken.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, held: VecDeque::new() }
    }

    /// Takes a place. Returns who has lost one for it: the oldest from the same host if that has a quarter of the places,
    /// else the oldest from the same block if that has half of them, else the oldest of the host with the most.
    pub(crate) fn take(&mut self, key: K, from: IpAddr) -> Option<K> {
        let victim = self.victim(from).and_then(|at| self.held.remove(at)).map(|(key, _)| key);
        self.held.push_back((key, from));
        victim
    }

    /// Gives a place back, if the key has one.
    pub(crate) fn leave(&mut self, key: &K) {
        self.held.retain(|(held, _)| held != key);
    }

    fn victim(&self, from: IpAddr) -> Option<usize> {
        let first = |is: &dyn Fn(IpAddr) -> bool| self.held.iter().position(|(_, ip)| is(*ip));
        let count = |is: &dyn Fn(IpAddr) -> bool| self.held.iter().filter(|(_, ip)| is(*ip)).count();
        let same_host = |ip| host(ip) == host(from);
        let same_net = |ip| net(ip) == net(from);
        if count(&same_host) >= self.max.div_ceil(4) {
            return first(&same_host);
        }
        if count(&same_net) >= self.max.div_ceil(2) {
            return first(&same_net);
        }
        if self.held.len() < self.max {
            return None;
        }
        let of_host = |ip: IpAddr| count(&|other| host(other) == host(ip));
        let (_, most) = self.held.iter().rev().max_by_key(|(_, ip)| of_host(*ip))?;
        first(&|ip| host(ip) == host(*most))
    }
}

/// The connections that are being encrypted and multiplexed.
#[derive(Debug)]
pub(crate) struct Admission(Mutex<State>);

#[derive(Debug)]
struct State {
    strangers: Places<Pending>,
    members: Places<Pending>,
    /// From where members have come.
    addresses: Members<IpAddr>,
    next: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    abort: AbortHandle,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Admission {
    /// So many places for strangers, and as many for the addresses of members.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            strangers: Places::new(max),
            members: Places::new(max),
            addresses: Members::default(),
            next: 0,
            evicted: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between a lock and its end can panic and leave a partial state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member has come from this address.
    pub(crate) fn proved(&self, address: IpAddr) {
        self.state().addresses.note(address);
    }

    /// Whether a connection made room for another one, and this was not asked about it yet.
    pub(crate) fn take_evicted(&self) -> bool {
        let evicted = &mut self.state().evicted;
        let is_one = *evicted > 0;
        *evicted -= u64::from(is_one);
        is_one
    }

    /// Carries out the upgrade of a connection, unless it has to make room before it ends.
    fn enter<F, T>(self: &Arc<Self>, from: IpAddr, upgrade: F) -> BoxFuture<'static, io::Result<T>>
    where
        F: Future<Output = io::Result<T>> + Send + 'static,
        T: 'static,
    {
        let (abort, registration) = AbortHandle::new_pair();
        let number = {
            let mut state = self.state();
            state.next += 1;
            let pending = Pending { number: state.next, abort: abort.clone() };
            let is_member = state.addresses.contains(&from);
            let places = if is_member { &mut state.members } else { &mut state.strangers };
            if let Some(victim) = places.take(pending, from) {
                victim.abort.abort();
                state.evicted += 1;
            }
            state.next
        };
        let place = Place { admission: Arc::clone(self), pending: Pending { number, abort } };
        let upgrade = async move {
            let upgraded = Abortable::new(upgrade, registration).await;
            drop(place);
            upgraded.unwrap_or_else(|_| Err(io::Error::other("too many others are connecting")))
        };
        upgrade.boxed()
    }
}

/// A place that is given back however the connection ends.
struct Place {
    admission: Arc<Admission>,
    pending: Pending,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.strangers.leave(&self.pending);
        state.members.leave(&self.pending);
    }
}

type Connection = (PeerId, StreamMuxerBox);

/// A transport whose connections from outside take places.
pub(crate) struct Admitting {
    pub(crate) inner: Boxed<Connection>,
    pub(crate) admission: Arc<Admission>,
}

impl Transport for Admitting {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Connection>>;
    type Dial = <Boxed<Connection> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
        let from = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => ip(send_back_addr),
            _ => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        };
        Poll::Ready(event.map_upgrade(|upgrade| self.admission.enter(from, upgrade)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: [u8; 2]) -> IpAddr {
        IpAddr::from([192, 0, last[0], last[1]])
    }

    #[test]
    fn a_host_has_a_quarter_and_its_block_half_of_the_places() {
        let mut places = Places::new(16);
        let mut lost = Vec::new();
        (0..10).for_each(|n| lost.extend(places.take(n, v4([1, 1]))));
        assert_eq!(lost, [0, 1, 2, 3, 4, 5], "the oldest of the same host");
        lost.clear();
        (10..20).for_each(|n| lost.extend(places.take(n, v4([1, n]))));
        assert_eq!(lost, [6, 7, 8, 9, 10, 11], "the oldest of the same block");
        (20..28).for_each(|n| assert_eq!(places.take(n, v4([n, 1])), None, "others have room"));
        // All places are taken: no host has more than one, so the oldest goes.
        assert_eq!(places.take(28, v4([99, 1])), Some(12));
        places.take(29, v4([99, 1]));
        assert_eq!(places.take(30, v4([98, 1])), Some(28), "the host with the most makes room");
        places.leave(&29);
        assert_eq!(places.take(31, v4([97, 1])), None);
    }

    #[test]
    fn a_customer_of_ipv6_is_one_host_and_mapped_addresses_are_those_of_ipv4() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("is an address");
        assert_eq!(host(parse("2001:db8:1:2::1")), host(parse("2001:db8:1:2:ffff::9")));
        assert_ne!(host(parse("2001:db8:1:2::1")), host(parse("2001:db8:1:3::1")));
        assert_eq!(net(parse("2001:db8:1:2::1")), net(parse("2001:db8:1:3::1")));
        assert_ne!(net(parse("2001:db8:1::1")), net(parse("2001:db8:2::1")));
        let mapped = "/ip6/::ffff:192.0.2.1/tcp/1".parse().expect("is an address");
        assert_eq!(ip(&mapped), parse("192.0.2.1"));
    }

    #[test]
    fn members_are_not_displaced_by_strangers() {
        let admission = Admission::new(4);
        let (member, stranger) = (v4([1, 1]), v4([2, 2]));
        admission.proved(member);
        let never = || std::future::pending::<io::Result<()>>();
        let mut first = admission.enter(member, never());
        let mut held: Vec<_> = (0..50).map(|_| admission.enter(stranger, never())).collect();
        assert!((&mut first).now_or_never().is_none());
        let ended =
            |it: &mut BoxFuture<'_, io::Result<()>>| it.now_or_never().is_some_and(|end| end.is_err());
        assert_eq!(held.iter_mut().filter_map(|it| ended(it).then_some(())).count(), 49);
        assert_eq!((0..99).filter(|_| admission.take_evicted()).count(), 49);
        drop(held);
        assert!(
            admission
                .enter(stranger, std::future::ready(Ok(())))
                .now_or_never()
                .is_some_and(|end| end.is_ok())
        );
    }
}
