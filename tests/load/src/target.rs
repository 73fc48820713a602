//! Where the load may go: this machine and nowhere else. A load generator with a typing mistake in its URL is an attack
//! on somebody.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use http::Uri;

/// A checked address to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// What the Host header says.
    pub host: String,
    /// The path to ask for.
    pub path: String,
}

/// Why a URL is no target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// It cannot be read, or names no server.
    #[error("{0} is not a URL like http://127.0.0.1:8080/")]
    NotAUrl(String),
    /// Its scheme is another one.
    #[error("{0}: only http is spoken here")]
    NotHttp(String),
    /// A name, which may lead anywhere, and elsewhere tomorrow.
    #[error("{0} is a name: give an address, and the name with --host")]
    NotAnAddress(String),
    /// Somebody else's machine.
    #[error(
        "{0} is neither an address of this machine nor a private one behind a bridge or a veth of it: \
         a load goes nowhere else"
    )]
    NotHere(IpAddr),
}

impl Target {
    /// Reads a URL and refuses one that leads off this machine.
    pub fn new(url: &str, host: Option<&str>) -> Result<Self, TargetError> {
        let not_a_url = || TargetError::NotAUrl(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| not_a_url())?;
        let authority = uri.authority().ok_or_else(not_a_url)?;
        if uri.scheme_str() != Some("http") {
            return Err(TargetError::NotHttp(url.to_owned()));
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let ip = match name {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            name => name.parse().map_err(|_| TargetError::NotAnAddress(name.to_owned()))?,
        };
        if !is_here(ip) {
            return Err(TargetError::NotHere(ip));
        }
        Ok(Self {
            address: SocketAddr::new(ip, authority.port_u16().unwrap_or(80)),
            host: host.unwrap_or(authority.as_str()).to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

/// Whether an address is loopback, this machine's own, or private and reached over a link that ends on this machine.
fn is_here(ip: IpAddr) -> bool {
    // Only an address of this machine can be bound to. The unspecified address would be, too, and means nothing here.
    let own = || !ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok();
    let behind_own_link = || match ip {
        IpAddr::V4(ip) if ip.is_private() => {
            let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
            link_of(ip, &routes).is_some_and(|link| ends_here(&Path::new("/sys/class/net").join(link)))
        }
        _ => false,
    };
    ip.is_loopback() || own() || behind_own_link()
}

/// The link over which an address is reached without a gateway, from the kernel's table: the most specific row wins.
/// Numbers there are hexadecimal, in the byte order of the machine.
fn link_of(ip: Ipv4Addr, routes: &str) -> Option<&str> {
    let number = |text: &str| Some(u32::from_be_bytes(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
    let best = routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [link, destination, gateway, _, _, _, _, mask, ..] = fields[..] else { return None };
        let (destination, gateway, mask) = (number(destination)?, number(gateway)?, number(mask)?);
        (u32::from(ip) & mask == destination).then_some((mask, gateway, link))
    });
    let (_, gateway, link) = best.max_by_key(|(mask, ..)| *mask)?;
    (gateway == 0).then_some(link)
}

/// Whether what is sent over a link stays on this machine: a veth, or a bridge with nothing but veths on it.
fn ends_here(link: &Path) -> bool {
    let ports = link.join("brif");
    if ports.is_dir() {
        let Ok(ports) = std::fs::read_dir(ports) else { return false };
        let parent = link.parent().unwrap_or(Path::new("/sys/class/net"));
        return ports.flatten().all(|port| is_veth(&parent.join(port.file_name())));
    }
    is_veth(link)
}

/// A veth is a link without a device under it whose other end is another link.
fn is_veth(link: &Path) -> bool {
    let number = |file: &str| std::fs::read_to_string(link.join(file)).ok()?.trim().parse::<u32>().ok();
    let lower = std::fs::read_dir(link).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("lower_")))
    });
    !link.join("device").exists() && !lower && number("iflink") != number("ifindex")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_a_target() {
        let target = Target::new("http://127.0.0.1:8080/x?y=1", Some("shop.example.com")).expect("loopback");
        assert_eq!(target.address, "127.0.0.1:8080".parse().expect("an address"));
        assert_eq!((target.host.as_str(), target.path.as_str()), ("shop.example.com", "/x?y=1"));
        assert_eq!(Target::new("http://localhost", None).expect("loopback").path, "/");
        assert!(Target::new("http://[::1]:80/", None).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        for url in ["http://192.0.2.1/", "http://8.8.8.8/", "http://0.0.0.0/", "http://203.0.113.9:8080/"] {
            assert!(matches!(Target::new(url, None), Err(TargetError::NotHere(_))), "{url}");
        }
        assert!(matches!(Target::new("http://example.com/", None), Err(TargetError::NotAnAddress(_))));
        assert!(matches!(Target::new("https://127.0.0.1/", None), Err(TargetError::NotHttp(_))));
        assert!(matches!(Target::new("/path", None), Err(TargetError::NotAUrl(_))));
    }

    #[test]
    fn a_private_address_behind_a_gateway_is_not_on_this_machine() {
        // Columns as in /proc/net/route on a little-endian machine: a default route, and a bridge for 172.17.0.0/16.
        let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                      eth0 00000000 010011AC 0003 0 0 0 00000000 0 0 0\n\
                      docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(link_of(Ipv4Addr::new(172, 17, 0, 5), routes), Some("docker0"));
            assert_eq!(link_of(Ipv4Addr::new(10, 1, 2, 3), routes), None);
        }
    }

    #[test]
    fn a_bridge_with_a_real_network_card_leads_off_this_machine() {
        let net = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = net.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        };
        write("veth0/ifindex", "5\n");
        write("veth0/iflink", "4\n");
        write("br0/brif/veth0/x", "");
        assert!(ends_here(&net.path().join("br0")));
        assert!(ends_here(&net.path().join("veth0")));

        write("eth0/ifindex", "2\n");
        write("eth0/iflink", "2\n");
        write("eth0/device/vendor", "");
        assert!(!ends_here(&net.path().join("eth0")));
        write("br0/brif/eth0/x", "");
        assert!(!ends_here(&net.path().join("br0")));
    }
}
