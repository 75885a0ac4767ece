//! Addresses at which clouds give credentials and secrets to their machines, to anyone who asks
//! from there. A gateway is such a machine, and its clients are others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const METADATA: [IpAddr; 9] = [
    // AWS, Azure, Google Cloud, Oracle, OpenStack and many others.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Tasks of AWS ECS, pods of AWS EKS.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Azure's own channel to a machine, with its certificates and extension settings.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba Cloud, Tencent Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
];

pub(super) fn is_metadata(address: &IpAddr) -> bool {
    METADATA.contains(address)
}
