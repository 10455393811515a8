//! How much anyone may use of this server: who is kept for how long, and who is asked to come later.
//!
//! Addresses and users are counted here, before a session or the store is asked for anything. Turns and
//! tokens are the engine's to count. What is refused costs a look into a map.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use duologue_engine::{
    evicting_map::{Evictable, EvictingMap},
    limits::UserLimits,
    rate::Rate,
};
use duologue_protocol::UserId;
use ipnet::IpNet;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::config::{AddressLimits, ConnectionLimits, LimitsConfig};

/// What is told to those for whom there is no place. Nobody knows when there will be one.
pub(crate) const PLACE_RETRY_DELAY: Duration = Duration::from_secs(5);

/// An IPv6 address stands for the network of its household, which has them by the billion.
const HOUSEHOLD_BITS: u32 = 64;

/// Everybody who has been here lately.
#[derive(Debug)]
pub(crate) struct Gates {
    address: AddressLimits,
    connection: ConnectionLimits,
    user: UserLimits,
    proxies_trusted: Arc<[IpNet]>,
    addresses: EvictingMap<IpAddr, Address>,
    users: EvictingMap<UserId, User>,
}

#[derive(Debug)]
struct Address {
    handshakes: Rate,
    auth_failures: Rate,
    /// Until when nobody from here is asked for a token.
    shut_until: Mutex<Option<Instant>>,
    connections: Counted,
    unattached: Counted,
}

/// What one user's connections have in common.
#[derive(Debug)]
pub(crate) struct User {
    messages: Rate,
    sockets: Counted,
}

/// Places, of which some are taken.
#[derive(Debug)]
struct Counted {
    free: Arc<Semaphore>,
    all: usize,
}

/// A connection's places among those of its address.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    _connection: OwnedSemaphorePermit,
    /// Given back when the connection is attached to a session.
    unattached: Mutex<Option<OwnedSemaphorePermit>>,
}

/// A socket's place among its user's.
#[derive(Debug)]
pub(crate) struct UserPlace {
    user: Arc<User>,
    _socket: OwnedSemaphorePermit,
}

impl Gates {
    pub(crate) fn new(config: &LimitsConfig, proxies_trusted: Arc<[IpNet]>) -> Self {
        Self {
            address: config.address.clone(),
            connection: config.connection.clone(),
            user: config.user.clone(),
            proxies_trusted,
            addresses: EvictingMap::default(),
            users: EvictingMap::default(),
        }
    }

    /// Whether connections from there are those of many clients.
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxies_trusted.iter().any(|net| net.contains(&peer))
    }

    /// Takes places for a connection. `None`: its address has none left.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<AddressPlace> {
        let address = self.address(address);
        Some(AddressPlace {
            _connection: address.connections.take()?,
            unattached: Mutex::new(Some(address.unattached.take()?)),
        })
    }

    /// Counts a request. If there are too many: how long to wait.
    pub(crate) fn handshake(&self, address: IpAddr) -> Result<(), Duration> {
        self.address(address).handshakes.take()
    }

    /// Whether tokens from there are looked at. If not: how long to wait.
    pub(crate) fn may_authenticate(&self, address: IpAddr) -> Result<(), Duration> {
        let address = self.address(address);
        let shut_until = *lock(&address.shut_until);
        let wait = shut_until.map(|until| until.saturating_duration_since(Instant::now()));
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(wait),
            None => Ok(()),
        }
    }

    /// A token from there was refused.
    pub(crate) fn failed_to_authenticate(&self, address: IpAddr) {
        let address = self.address(address);
        if let Err(wait) = address.auth_failures.take() {
            *lock(&address.shut_until) = Some(Instant::now() + wait);
        }
    }

    /// Takes a place for a user's socket. `None`: there is none left.
    pub(crate) fn seat(&self, user_id: &UserId) -> Option<UserPlace> {
        let user = self.users.entry(user_id.clone(), || User::new(&self.user));
        let socket = user.sockets.take()?;
        Some(UserPlace {
            user,
            _socket: socket,
        })
    }

    /// The limits of one WebSocket.
    pub(crate) fn connection(&self) -> &ConnectionLimits {
        &self.connection
    }

    fn address(&self, address: IpAddr) -> Arc<Address> {
        self.addresses
            .entry(household(address), || Address::new(&self.address))
    }
}

impl Address {
    fn new(limits: &AddressLimits) -> Self {
        Self {
            handshakes: Rate::new(
                limits.handshakes_per_second,
                Duration::from_secs(1),
                limits.handshakes_burst,
            ),
            auth_failures: Rate::per_minute(limits.auth_failures_per_minute),
            shut_until: Mutex::default(),
            connections: Counted::new(limits.connections_max.get()),
            unattached: Counted::new(limits.unattached_max.get()),
        }
    }
}

impl Evictable for Address {
    fn is_evictable(&self) -> bool {
        // While it is shut it has failed lately, which is not idle.
        self.handshakes.is_idle() && self.auth_failures.is_idle() && self.connections.is_free()
    }
}

impl User {
    fn new(limits: &UserLimits) -> Self {
        Self {
            messages: Rate::new(
                limits.messages_per_minute,
                Duration::from_mins(1),
                limits.messages_burst,
            ),
            sockets: Counted::new(limits.sockets_max.get()),
        }
    }
}

impl Evictable for User {
    fn is_evictable(&self) -> bool {
        self.messages.is_idle() && self.sockets.is_free()
    }
}

impl Counted {
    fn new(all: u32) -> Self {
        let all = (all as usize).min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    fn is_free(&self) -> bool {
        self.free.available_permits() == self.all
    }
}

impl AddressPlace {
    /// The connection does some work now, and makes room for another that does not yet.
    pub(crate) fn attached(&self) {
        lock(&self.unattached).take();
    }
}

impl UserPlace {
    /// Counts a message. If there are too many: how long to wait.
    pub(crate) fn message(&self) -> Result<(), Duration> {
        self.user.messages.take()
    }
}

/// What an address is counted as.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (u128::BITS - HOUSEHOLD_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that runs under these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_with_its_household() {
        for (address, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:3:3:4:5:6", "2001:db8:1:3::"),
        ] {
            let household = household(address.parse().unwrap());
            assert_eq!(household, expected.parse::<IpAddr>().unwrap(), "{address}");
        }
    }
}
