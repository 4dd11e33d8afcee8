//! Where webhooks may go: to public addresses, and to what the operator has allowed by name.
//!
//! A customer names the URL, and this server sends the request: without a rule it could be sent to a database beside it,
//! or to the metadata service of its cloud. The rule is about addresses and not about names, since whoever owns a name
//! decides what it resolves to, and may decide otherwise the next moment. It has to be asked about the very address that is
//! then connected to.
//!
//! Refused is what IANA's registries of special-purpose addresses (RFC 6890 and its successors) do not call globally
//! reachable, everything else that is no unicast address, and what carries another address within: IPv4-mapped and
//! -compatible addresses, NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// The text is no address with the length of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be an address or a network such as 127.0.0.0/8 or fd00::/8, without bits beyond the prefix")]
pub struct InvalidNetwork;

/// All addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether the address is one of them. An IPv4 address within an IPv6 address is not: that is another way to reach
    /// it.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => in_v4(address, network, self.prefix_bits),
            (IpAddr::V6(network), IpAddr::V6(address)) => in_v6(address, network, self.prefix_bits),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.map_or(Ok(bits_max), str::parse).map_err(|_| InvalidNetwork)?;
        if prefix_bits > bits_max {
            return Err(InvalidNetwork);
        }
        let is_start = match address {
            IpAddr::V4(address) => address.to_bits() & !mask_v4(prefix_bits) == 0,
            IpAddr::V6(address) => address.to_bits() & !mask_v6(prefix_bits) == 0,
        };
        // 10.1.2.3/8 is a slip of somebody who means less than the network has.
        if is_start { Ok(Self { address, prefix_bits }) } else { Err(InvalidNetwork) }
    }
}

/// A shift by all bits overflows, and means that nothing is left.
fn mask_v4(prefix_bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0)
}

fn mask_v6(prefix_bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0)
}

fn in_v4(address: Ipv4Addr, network: Ipv4Addr, prefix_bits: u8) -> bool {
    (address.to_bits() ^ network.to_bits()) & mask_v4(prefix_bits) == 0
}

fn in_v6(address: Ipv6Addr, network: Ipv6Addr, prefix_bits: u8) -> bool {
    (address.to_bits() ^ network.to_bits()) & mask_v6(prefix_bits) == 0
}

const fn v4(a: u8, b: u8, c: u8, prefix_bits: u8) -> (Ipv4Addr, u8) {
    (Ipv4Addr::new(a, b, c, 0), prefix_bits)
}

const fn v6(a: u16, b: u16, prefix_bits: u8) -> (Ipv6Addr, u8) {
    (Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix_bits)
}

const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    v4(0, 0, 0, 8),       // this network; 0.0.0.0 is this host
    v4(10, 0, 0, 8),      // private
    v4(100, 64, 0, 10),   // shared by a provider's customers (CGNAT)
    v4(127, 0, 0, 8),     // loopback
    v4(169, 254, 0, 16),  // link-local, and the metadata services of clouds
    v4(172, 16, 0, 12),   // private
    v4(192, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 24),    // documentation
    v4(192, 88, 99, 24),  // relays of 6to4
    v4(192, 168, 0, 16),  // private
    v4(198, 18, 0, 15),   // benchmarks
    v4(198, 51, 100, 24), // documentation
    v4(203, 0, 113, 24),  // documentation
    v4(224, 0, 0, 4),     // multicast
    v4(240, 0, 0, 4),     // reserved, and broadcast
];

/// Global unicast addresses. Loopback, private, link-local, mapped, NAT64 and multicast ones are all outside.
const GLOBAL_V6: (Ipv6Addr, u8) = v6(0x2000, 0, 3);

const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    v6(0x2001, 0, 23),     // protocol assignments: Teredo, ORCHID, benchmarks
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4
    v6(0x3fff, 0, 20),     // documentation
];

/// Whether an address is one of the public internet, reached directly.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|(network, bits)| in_v4(address, *network, *bits)),
        IpAddr::V6(address) => {
            let (network, bits) = GLOBAL_V6;
            in_v6(address, network, bits)
                && !SPECIAL_V6.iter().any(|(network, bits)| in_v6(address, *network, *bits))
                && !is_isatap(address)
        }
    }
}

/// Whether the interface's identifier is `[02]00:5efe` and an IPv4 address.
fn is_isatap(address: Ipv6Addr) -> bool {
    let [.., high, low, _, _] = address.segments();
    matches!(high, 0 | 0x0200) && low == 0x5efe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The first and the last address of each network, and the neighbours that are public.
    #[test]
    fn what_is_not_public_ends_where_the_registries_say() {
        let refused = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0 127.255.255.255 \
            169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255 192.0.2.0 \
            192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0 \
            198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255 \
            :: ::1 ::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b::7f00:1 \
            64:ff9b:1::1 100::1 1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2001::1 2001:0:ffff::1 2001:2::1 2001:10::1 \
            2001:20::1 2001:1ff:ffff::1 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2002:: 2002:7f00:1::1 \
            2002:ffff::1 3fff::1 3fff:fff:ffff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1 \
            ff0e::1 2606:4700::5efe:7f00:1 2606:4700::200:5efe:a00:1";
        for text in refused.split_ascii_whitespace() {
            assert!(!is_public(address(text)), "{text} passes for a public address");
        }
        let public = "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
            169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 \
            192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 \
            203.0.114.0 223.255.255.255 2000::1 2001:200::1 2001:4860:4860::8888 2001:db7::1 2001:db9::1 2003::1 \
            2606:4700:4700::1111 2a00:1450:4001::200e 3ffe::1 3fff:1000::1";
        for text in public.split_ascii_whitespace() {
            assert!(is_public(address(text)), "{text} is refused");
        }
    }

    #[test]
    fn a_network_has_what_begins_like_it() {
        let cases = [
            ("127.0.0.0/8", "127.255.0.1", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "fe80::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fc00::1", false),
            ("::1", "::1", true),
            ("127.0.0.0/8", "::ffff:127.0.0.1", false),
        ];
        for (network, text, is_in) in cases {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address(text)), is_in, "{text} in {network:?}");
        }
    }

    #[test]
    fn a_network_is_written_with_care() {
        for bad in [
            "",
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.1.0.0/8",
            "fd00::1/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "/8",
            "10/8",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork), "{bad:?} was accepted");
        }
    }
}
