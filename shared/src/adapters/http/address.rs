//! Addresses at which no provider is, after IANA's registries of special-purpose addresses (RFC 6890).
//!
//! A name in the public DNS may point at any of them: whoever can choose a host, or its DNS entry, would otherwise make
//! us call what only we can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is wrong with a host at such an address, and what to do.
macro_rules! problem {
    ($kind:literal) => {
        concat!("its host has ", $kind, ": where that is meant, name the host in egress.allow")
    };
}

const THIS_NETWORK: &str = problem!("an unspecified address");
const PRIVATE: &str = problem!("a private address");
const SHARED: &str = problem!("an address of a carrier's inner network (100.64.0.0/10)");
const LOOPBACK: &str = problem!("a loopback address");
const LINK_LOCAL: &str = problem!("a link-local address, where clouds keep their metadata");
const CLOUD: &str = problem!("the address of a cloud's own services (168.63.129.16)");
const DOCUMENTATION: &str = problem!("an address for documentation");
const BENCHMARK: &str = problem!("an address for benchmarks");
const MULTICAST: &str = problem!("a multicast address");
const RESERVED: &str = problem!("a reserved address");

/// Network, length of its prefix, problem.
const IPV4: [(Ipv4Addr, u32, &str); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, THIS_NETWORK), // RFC 1122, 3.2.1.3
    (Ipv4Addr::new(10, 0, 0, 0), 8, PRIVATE),     // RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10, SHARED),   // RFC 6598
    (Ipv4Addr::new(127, 0, 0, 0), 8, LOOPBACK),   // RFC 1122, 3.2.1.3
    // Reached from inside Azure's machines alone:
    // https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
    (Ipv4Addr::new(168, 63, 129, 16), 32, CLOUD),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL), // RFC 3927
    (Ipv4Addr::new(172, 16, 0, 0), 12, PRIVATE),     // RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24, RESERVED),     // RFC 6890, 2.1
    (Ipv4Addr::new(192, 0, 2, 0), 24, DOCUMENTATION), // RFC 5737
    (Ipv4Addr::new(192, 88, 99, 0), 24, RESERVED),   // RFC 7526
    (Ipv4Addr::new(192, 168, 0, 0), 16, PRIVATE),    // RFC 1918
    (Ipv4Addr::new(198, 18, 0, 0), 15, BENCHMARK),   // RFC 2544
    (Ipv4Addr::new(198, 51, 100, 0), 24, DOCUMENTATION), // RFC 5737
    (Ipv4Addr::new(203, 0, 113, 0), 24, DOCUMENTATION), // RFC 5737
    (Ipv4Addr::new(224, 0, 0, 0), 4, MULTICAST),     // RFC 5771
    (Ipv4Addr::new(255, 255, 255, 255), 32, problem!("the broadcast address")), // RFC 919
    (Ipv4Addr::new(240, 0, 0, 0), 4, RESERVED),      // RFC 1112, 4
];

/// The same, the narrower before the wider.
const IPV6: [(Ipv6Addr, u32, &str); 11] = [
    (Ipv6Addr::UNSPECIFIED, 128, THIS_NETWORK),
    (Ipv6Addr::LOCALHOST, 128, LOOPBACK),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, RESERVED), // IPv4-compatible: RFC 4291, 2.5.5.1
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, BENCHMARK), // RFC 5180
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, RESERVED), // RFC 2928
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, DOCUMENTATION), // RFC 3849
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, DOCUMENTATION), // RFC 9637
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, PRIVATE), // RFC 4193
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL), // RFC 4291, 2.5.6
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, PRIVATE), // RFC 3879
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, MULTICAST), // RFC 4291, 2.7
];

/// Why no provider is at this address; `None` where one may be.
pub(super) fn problem(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => ipv4(address),
        IpAddr::V6(address) => ipv6(address),
    }
}

fn ipv4(address: Ipv4Addr) -> Option<&'static str> {
    let is_in =
        |network: Ipv4Addr, prefix: u32| (address.to_bits() ^ network.to_bits()) >> (32 - prefix) == 0;
    IPV4.iter().find(|(network, prefix, _)| is_in(*network, *prefix)).map(|(_, _, problem)| *problem)
}

fn ipv6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        // What is sent there arrives at an IPv4 address that is part of it: IPv4-mapped (RFC 4291, 2.5.5.2), NAT64
        // (RFC 6052, 2.1) and 6to4 (RFC 3056, 2).
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => ipv4(embedded(high, low)),
        // Teredo: the server's address, and the client's with its bits inverted (RFC 4380, 4).
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            ipv4(embedded(high, low)).or_else(|| ipv4(embedded(!client_high, !client_low)))
        }
        _ => special_ipv6(address),
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

fn special_ipv6(address: Ipv6Addr) -> Option<&'static str> {
    let is_in =
        |network: Ipv6Addr, prefix: u32| (address.to_bits() ^ network.to_bits()) >> (128 - prefix) == 0;
    match IPV6.iter().find(|(network, prefix, _)| is_in(*network, *prefix)) {
        Some((_, _, problem)) => Some(problem),
        // Of the rest, only 2000::/3 is given out (RFC 4291, 2.4, and IANA's list).
        None => (address.segments()[0] >> 13 != 1).then_some(RESERVED),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_borders_of_each_network() {
        let refused = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0 \
             127.255.255.255 168.63.129.16 169.254.0.0 169.254.255.255 172.16.0.0 172.31.255.255 \
             192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.0 192.168.0.0 192.168.255.255 \
             198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 \
             239.255.255.255 240.0.0.0 255.255.255.254 255.255.255.255 :: ::1 ::2 ::ffff:0:0:1 100::1 \
             64:ff9b:1::1 1fff:ffff::1 2001::1 2001:1ff::1 2001:2::1 2001:db8:: 2001:db8:ffff::1 3fff::1 \
             3fff:fff::1 4000::1 5f00::1 fc00:: fdff::1 fe80:: febf::1 fec0::1 feff::1 ff00:: ffff::1";
        for address in refused.split(' ') {
            assert!(problem(address.parse().unwrap()).is_some(), "{address}");
        }
        let fine = "1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
             168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 \
             192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 \
             198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 2000::1 2001:200::1 \
             2001:db7:ffff::1 2001:db9::1 2003::1 2606:2800:21f::1 3ffe::1 3fff:1000::1";
        for address in fine.split(' ') {
            assert_eq!(problem(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn nothing_that_the_standard_library_knows_as_special_is_missing() {
        // A prime step, so that all bits vary.
        for bits in (0..=u32::MAX).step_by(65_521) {
            let address = Ipv4Addr::from_bits(bits);
            let is_special = address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_documentation();
            assert!(!is_special || ipv4(address).is_some(), "{address}");
        }
    }

    proptest! {
        #[test]
        fn an_embedded_address_is_judged_as_itself(bits: u32, mask in 0_u32..32) {
            // Small numbers too, so that the networks at the beginning are met.
            let address = Ipv4Addr::from_bits(bits >> mask);
            let [a, b, c, d] = address.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            prop_assert_eq!(ipv6(address.to_ipv6_mapped()), ipv4(address));
            prop_assert_eq!(ipv6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)), ipv4(address));
            prop_assert_eq!(ipv6(Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5)), ipv4(address));
            let client = Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low);
            prop_assert_eq!(ipv6(client), ipv4(address));
            let server = Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x0808, !0x0808);
            prop_assert_eq!(ipv6(server), ipv4(address));
            prop_assert!(ipv6(address.to_ipv6_compatible()).is_some());
        }

        #[test]
        fn only_given_out_ipv6_addresses_are_fine(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let is_carrier = matches!(address.segments(), [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, ..]);
            prop_assert!(ipv6(address).is_some() || bits >> 125 == 1 || is_carrier);
        }
    }
}
