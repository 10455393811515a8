//! Limits of addresses and users on connections, requests, failed tokens and messages.
//!
//! They are checked before a session or the store is involved, so that a refusal costs one look-up in
//! a map. Turns and tokens are counted by the engine.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use duologue_engine::{
    evicting_map::{Evictable, EvictingMap},
    limits::UserLimits,
    lock::lock,
    rate::Rate,
};
use duologue_protocol::UserId;
use ipnet::IpNet;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::config::{AddressLimits, FrameLimits, LimitsConfig};

/// What a refused client is asked to wait for a free slot. The server cannot know when one is released.
pub(crate) const SLOT_RETRY_DELAY: Duration = Duration::from_secs(5);

/// IPv6 addresses are counted by network: one customer usually has a /64, 2^64 addresses.
const IPV6_PREFIX_BITS: u32 = 64;

/// The limits, and the usage of every address and user that was active recently.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    address: AddressLimits,
    frames: FrameLimits,
    user: UserLimits,
    proxies_trusted: Arc<[IpNet]>,
    addresses: EvictingMap<IpAddr, AddressUsage>,
    users: EvictingMap<UserId, UserUsage>,
}

#[derive(Debug)]
struct AddressUsage {
    requests: Rate,
    auth_failures: Rate,
    /// Until when tokens from this address are refused without a check.
    locked_until: Mutex<Option<Instant>>,
    connections: Slots,
    unattached: Slots,
}

/// The usage of all connections of one user.
#[derive(Debug)]
struct UserUsage {
    messages: Rate,
    sockets: Slots,
}

/// A number of slots, some of them taken.
#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    all: usize,
}

/// A connection's slots among those of its address.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    _connection: OwnedSemaphorePermit,
    /// Released when the connection is attached to a session.
    unattached: Mutex<Option<OwnedSemaphorePermit>>,
}

/// A socket's slot among those of its user.
#[derive(Debug)]
pub(crate) struct UserSlot {
    user: Arc<UserUsage>,
    _socket: OwnedSemaphorePermit,
}

impl ConnectionLimits {
    pub(crate) fn new(config: &LimitsConfig, proxies_trusted: Arc<[IpNet]>) -> Self {
        Self {
            address: config.address.clone(),
            frames: config.connection.clone(),
            user: config.user.clone(),
            proxies_trusted,
            addresses: EvictingMap::default(),
            users: EvictingMap::default(),
        }
    }

    /// Whether connections from this address belong to many clients.
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxies_trusted.iter().any(|net| net.contains(&peer))
    }

    /// Takes the slots of a connection. `None`: its address has none left.
    pub(crate) fn address_slot(&self, address: IpAddr) -> Option<AddressSlot> {
        let usage = self.usage_of(address);
        Some(AddressSlot {
            _connection: usage.connections.take()?,
            unattached: Mutex::new(Some(usage.unattached.take()?)),
        })
    }

    /// Counts a request. The error is how long to wait.
    pub(crate) fn count_request(&self, address: IpAddr) -> Result<(), Duration> {
        self.usage_of(address).requests.take()
    }

    /// Checks that the address is not locked out. The error is how long to wait.
    pub(crate) fn check_lockout(&self, address: IpAddr) -> Result<(), Duration> {
        let usage = self.usage_of(address);
        let locked_until = *lock(&usage.locked_until);
        let wait = locked_until.map(|until| until.saturating_duration_since(Instant::now()));
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(wait),
            None => Ok(()),
        }
    }

    /// Counts a refused token, and locks the address out if there were too many.
    pub(crate) fn count_auth_failure(&self, address: IpAddr) {
        let usage = self.usage_of(address);
        if let Err(wait) = usage.auth_failures.take() {
            *lock(&usage.locked_until) = Some(Instant::now() + wait);
        }
    }

    /// Takes a slot for a user's socket. `None`: the user has none left.
    pub(crate) fn user_slot(&self, user_id: &UserId) -> Option<UserSlot> {
        let make = || UserUsage::new(&self.user);
        let user = self.users.entry(user_id.clone(), make);
        let socket = user.sockets.take()?;
        Some(UserSlot {
            user,
            _socket: socket,
        })
    }

    /// The limits of one WebSocket.
    pub(crate) fn frames(&self) -> &FrameLimits {
        &self.frames
    }

    fn usage_of(&self, address: IpAddr) -> Arc<AddressUsage> {
        let make = || AddressUsage::new(&self.address);
        self.addresses.entry(limit_key(address), make)
    }
}

impl AddressUsage {
    fn new(limits: &AddressLimits) -> Self {
        Self {
            requests: Rate::new(
                limits.handshakes_per_second,
                Duration::from_secs(1),
                limits.handshakes_burst,
            ),
            auth_failures: Rate::per_minute(limits.auth_failures_per_minute),
            locked_until: Mutex::default(),
            connections: Slots::new(limits.connections_max.get()),
            unattached: Slots::new(limits.unattached_max.get()),
        }
    }
}

impl Evictable for AddressUsage {
    fn is_evictable(&self) -> bool {
        // A locked address has failed recently, so its rate is not idle.
        self.requests.is_idle() && self.auth_failures.is_idle() && self.connections.is_free()
    }
}

impl UserUsage {
    fn new(limits: &UserLimits) -> Self {
        Self {
            messages: Rate::new(
                limits.messages_per_minute,
                Duration::from_mins(1),
                limits.messages_burst,
            ),
            sockets: Slots::new(limits.sockets_max.get()),
        }
    }
}

impl Evictable for UserUsage {
    fn is_evictable(&self) -> bool {
        self.messages.is_idle() && self.sockets.is_free()
    }
}

impl Slots {
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

impl AddressSlot {
    /// Releases the slot among the unattached connections.
    pub(crate) fn release_unattached(&self) {
        lock(&self.unattached).take();
    }
}

impl UserSlot {
    /// Counts a message. The error is how long to wait.
    pub(crate) fn count_message(&self) -> Result<(), Duration> {
        self.user.messages.take()
    }
}

/// The address under which usage is counted: an IPv4 address, or an IPv6 network.
fn limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (u128::BITS - IPV6_PREFIX_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_counts_with_its_network() {
        for (address, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:3:3:4:5:6", "2001:db8:1:3::"),
        ] {
            let key = limit_key(address.parse().unwrap());
            assert_eq!(key, expected.parse::<IpAddr>().unwrap(), "{address}");
        }
    }
}
