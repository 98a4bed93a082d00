//! How many connections each peer's address has.
//!
//! Each address is counted by one shard, which its hash names, for all shards: so the count is
//! exact whatever the order in which connections come and go on whichever shard, without a lock or
//! a counter that two cores write. The price is a message when a connection arrives and another
//! when it leaves; none is on the way of a client's message, and none is sent where there is no
//! limit. (The other way, a counter for each address and shard that the others read, can't refuse
//! exactly: two shards that read at once both see room for the last one.)

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU32;

/// The addresses that one shard counts.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// None is 0.
    connections: HashMap<IpAddr, u32>,
}

impl Addresses {
    /// Counts another connection of this address, unless it has `max` of them.
    pub(super) fn claim(&mut self, address: IpAddr, max: NonZeroU32) -> bool {
        let count = self.connections.entry(address).or_insert(0);
        if *count >= max.get() {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts another connection of this address, however many it has: it is there already.
    pub(super) fn count(&mut self, address: IpAddr) {
        *self.connections.entry(address).or_insert(0) += 1;
    }

    /// One of this address's connections is gone.
    pub(super) fn release(&mut self, address: IpAddr) {
        let Entry::Occupied(mut entry) = self.connections.entry(address) else {
            debug_assert!(false, "{address} has no connection to release");
            return;
        };
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }

    /// All connections that are counted.
    pub(super) fn total(&self) -> u64 {
        self.connections.values().copied().map(u64::from).sum()
    }
}

/// The shard that counts this address's connections. An IPv4 address is the same one whether it
/// came through an IPv4 or an IPv6 listener.
pub(super) fn owner(address: IpAddr, shards: u16) -> u16 {
    // Fixed keys: all shards must agree. Who chooses addresses so that they meet on one shard
    // gains nothing but a count there.
    let mut hasher = DefaultHasher::new();
    address.to_canonical().hash(&mut hasher);
    let shard = hasher.finish() % u64::from(shards.max(1));
    u16::try_from(shard).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
    }

    #[test]
    fn an_address_has_so_many_and_the_others_as_many() {
        let max = NonZeroU32::new(2).unwrap();
        let mut addresses = Addresses::default();
        for number in [1, 2] {
            assert!(addresses.claim(address(number), max));
            assert!(addresses.claim(address(number), max));
            assert!(!addresses.claim(address(number), max));
        }
        addresses.release(address(1));
        assert!(addresses.claim(address(1), max));
        assert!(!addresses.claim(address(1), max));
        assert!(!addresses.claim(address(2), max));
        assert_eq!(addresses.total(), 4);
    }

    #[test]
    fn an_address_without_connections_is_forgotten() {
        let mut addresses = Addresses::default();
        for number in 0..200 {
            assert!(addresses.claim(address(number), NonZeroU32::MIN));
            addresses.release(address(number));
        }
        assert!(addresses.connections.is_empty());
    }

    #[test]
    fn every_shard_owns_addresses_and_all_agree_on_the_mapped_ones() {
        let mut owned = [0; 7];
        for number in 0..=255 {
            let IpAddr::V4(v4) = address(number) else {
                unreachable!()
            };
            let shard = owner(address(number), 7);
            assert_eq!(owner(IpAddr::V6(v4.to_ipv6_mapped()), 7), shard);
            owned[usize::from(shard)] += 1;
        }
        assert!(owned.iter().all(|&count| count > 10), "{owned:?}");
        assert_eq!(owner(IpAddr::V6(Ipv6Addr::LOCALHOST), 1), 0);
    }
}
