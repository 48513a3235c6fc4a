//! Networks, written `address` or `address/bits`.
//!
//! An IPv4 address inside IPv6 (`::ffff:192.0.2.1`) is the IPv4 address: which of the two a peer hands on depends on how
//! it opened its socket.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv4 address that stand for one client.
pub const CLIENT_BITS_V4: u8 = 32;
/// Bits of an IPv6 address that stand for one client: what a provider gives to one household, and no more.
pub const CLIENT_BITS_V6: u8 = 64;

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: u128,
    bits: u8,
}

/// IPv4 and IPv6 in one: as IPv4-mapped addresses.
fn number(address: IpAddr) -> u128 {
    let wide = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    Ipv6Addr::to_bits(wide)
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no network; write \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\"");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > width {
            return Err(wrong());
        }
        Ok(Self { address: number(address), bits: bits + (128 - width) })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from_bits(self.address);
        let (address, bits, width) = match address.to_ipv4_mapped() {
            Some(address) if self.bits >= 96 => (IpAddr::V4(address), self.bits - 96, 32),
            _ => (IpAddr::V6(address), self.bits, 128),
        };
        if bits == width { write!(f, "{address}") } else { write!(f, "{address}/{bits}") }
    }
}

impl Network {
    /// The network of this many bits around an address: `ipv4` of them for IPv4 (32 at most), `ipv6` for IPv6 (128).
    #[must_use]
    pub fn around(address: IpAddr, ipv4: u8, ipv6: u8) -> Self {
        let address = number(address);
        let mapped = Ipv6Addr::from_bits(address).to_ipv4_mapped().is_some();
        let bits = if mapped { ipv4.min(32) + 96 } else { ipv6.min(128) };
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        Self { address: address & mask, bits }
    }

    /// The network that stands for one client: the IPv4 address, the /64 of an IPv6 address.
    #[must_use]
    pub fn of_client(address: IpAddr) -> Self {
        Self::around(address, CLIENT_BITS_V4, CLIENT_BITS_V6)
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let differing = number(address) ^ self.address;
        differing.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
    }
}

/// Whether a client may come from where it does, by a list of networks as the database holds it (`None`: from anywhere).
/// A client whose address the protocol does not tell is let in by the word `local` alone, as in Dovecot's `allow_nets`. A
/// word that is no network lets nobody in.
#[must_use]
pub fn allows(nets: Option<&[Box<str>]>, client: Option<IpAddr>) -> bool {
    let Some(nets) = nets else { return true };
    nets.iter().any(|net| match client {
        None => net.eq_ignore_ascii_case("local"),
        Some(client) => net.parse().is_ok_and(|net: Network| net.contains(client)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_one_ipv4_address_or_one_household() {
        let client = |text: &str| Network::of_client(text.parse().unwrap()).to_string();
        assert_eq!(client("192.0.2.7"), "192.0.2.7");
        assert_eq!(client("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_list_of_networks_lets_in_whom_it_names() {
        let nets: Vec<Box<str>> = vec!["10.0.0.0/8".into(), "2001:db8::/32".into(), "nonsense".into()];
        let from = |address: &str| Some(address.parse().unwrap());
        assert!(allows(None, None) && allows(None, from("192.0.2.1")));
        assert!(allows(Some(&nets), from("10.1.2.3")) && allows(Some(&nets), from("2001:db8::9")));
        assert!(!allows(Some(&nets), from("192.0.2.1")) && !allows(Some(&nets), None));
        assert!(allows(Some(&["local".into()]), None) && !allows(Some(&["local".into()]), from("127.0.0.1")));
        assert!(!allows(Some(&[]), from("10.1.2.3")));
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, address, want) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "192.0.2.1", true),
            ("::1", "::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), want, "{network:?} {address}");
        }
        for (address, shown) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
        ] {
            let address = address.parse().unwrap();
            let network = Network::around(address, 24, 64);
            assert_eq!(network.to_string(), shown);
            assert!(network.contains(address));
            assert_eq!(shown.parse(), Ok(network));
            assert_eq!(Network::around(address, 32, 128).to_string().parse(), Ok(Network::around(address, 32, 128)));
            assert!(Network::around(address, 0, 0).contains(address));
        }
        for text in ["", "localhost", "192.0.2.0/33", "192.0.2.0/", "::/129", "192.0.2.0/-1", "1.2.3"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
