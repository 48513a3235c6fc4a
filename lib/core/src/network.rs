//! Networks, written `address` or `address/bits`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let differing = number(address) ^ self.address;
        differing.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
