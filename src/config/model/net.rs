//! Files, addresses and networks.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde_yaml::Value as Yaml;

use crate::{
    config::{
        code,
        diagnostic::Findings,
        node::Node,
        read::{Read, bad, scalar},
    },
    site::{AdminAddress, SyslogAddress},
};

/// A file; relative ones start at the directory of the configuration file that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath {
    /// Where it is.
    pub path: PathBuf,
    /// As written, for messages.
    pub written: String,
    /// As written, but from the root: holds in any file.
    pub shown: PathBuf,
}

impl FilePath {
    /// A path that is absolute already.
    pub fn absolute(path: &str) -> Self {
        Self { path: path.into(), written: path.to_string(), shown: path.into() }
    }
}

impl Read for FilePath {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let scalar = scalar(node, "a file name", findings)?;
        let path = node.mark.source.dir.join(&scalar.text);
        let written = scalar.shown().to_string();
        // `${DIR}/x` does not look absolute, and is if `DIR` is.
        let absolute = Path::new(&scalar.text).is_absolute();
        let shown =
            if absolute { written.clone().into() } else { node.mark.source.dir.join(&written) };
        Some(Self { path, written, shown })
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.shown.display().to_string())
    }

    fn shows_as_written(&self) -> bool {
        true
    }
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPath {
    /// `-`
    Stdout,
    /// A file.
    File(FilePath),
    /// `syslog`, `syslog:/path` or `syslog:udp:ADDRESS:PORT`
    Syslog(SyslogAddress),
}

impl Read for LogPath {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a file name, \"-\" or syslog", findings)?.text;
        if text == "-" {
            return Some(Self::Stdout);
        }
        let receiver = match text.strip_prefix("syslog") {
            Some("") => "/dev/log",
            Some(receiver) if receiver.starts_with(':') => receiver.get(1..).unwrap_or_default(),
            _ => return FilePath::read(node, findings).map(Self::File),
        };
        let udp = receiver.strip_prefix("udp:").and_then(|address| address.parse().ok());
        let unix = || receiver.starts_with('/').then(|| SyslogAddress::Unix(receiver.into()));
        let address = udp.map(SyslogAddress::Udp).or_else(unix);
        if address.is_none() {
            bad(
                node,
                code::ADDRESS,
                "a syslog receiver",
                "`syslog` is /dev/log, `syslog:/run/other.sock` another Unix socket, \
                 `syslog:udp:10.0.0.5:514` UDP to an IP address; a file of that name is \
                 `./syslog:…`",
                findings,
            );
        }
        address.map(Self::Syslog)
    }

    fn show(&self) -> Yaml {
        match self {
            Self::Stdout => Yaml::from("-"),
            Self::File(file) => file.show(),
            Self::Syslog(SyslogAddress::Unix(path)) if path == Path::new("/dev/log") => {
                Yaml::from("syslog")
            }
            Self::Syslog(SyslogAddress::Unix(path)) => {
                Yaml::from(format!("syslog:{}", path.display()))
            }
            Self::Syslog(SyslogAddress::Udp(address)) => {
                Yaml::from(format!("syslog:udp:{address}"))
            }
        }
    }

    fn shows_as_written(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// An address to listen on.
impl Read for SocketAddr {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "an address with a port", findings)?.text;
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let port = text.rsplit(':').next().filter(|p| p.parse::<u16>().is_ok()).unwrap_or("443");
        bad(
            node,
            code::ADDRESS,
            "an IP address with a port",
            format!(
                "\"0.0.0.0:{port}\" is every IPv4 address of this machine, \"[::]:{port}\" every IPv6 one"
            ),
            findings,
        );
        None
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.to_string())
    }
}

impl Read for AdminAddress {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let scalar = scalar(node, "an address with a port, or unix:/path", findings)?;
        match scalar.text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Some(Self::Unix(path.into())),
            Some(_) => {
                bad(
                    node,
                    code::ADDRESS,
                    "a Unix socket",
                    "the path is absolute: `unix:/run/frontgate.sock`",
                    findings,
                );
                None
            }
            None => SocketAddr::read(node, findings).map(Self::Tcp),
        }
    }

    fn show(&self) -> Yaml {
        match self {
            Self::Tcp(address) => address.show(),
            Self::Unix(path) => Yaml::from(format!("unix:{}", path.display())),
        }
    }
}

/// A network in CIDR form, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

impl Cidr {
    /// The network without host bits, and one of IPv4 addresses in IPv6 form
    /// (`::ffff:10.0.0.0/104`) as what it means: addresses are compared in IPv4 form.
    pub fn canonical(self) -> IpNet {
        let net = self.0.trunc();
        match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
            (address @ IpAddr::V4(_), Some(bits)) if net.addr().is_ipv6() => {
                IpNet::new(address, bits).unwrap_or(net)
            }
            _ => net,
        }
    }
}

impl Read for Cidr {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a network", findings)?.text;
        let net = text.parse::<IpNet>().ok();
        let net = net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if net.is_none() {
            bad(
                node,
                code::CIDR,
                "a network",
                "networks look like `10.0.0.0/8` or `2001:db8::/32`",
                findings,
            );
        }
        net.map(Self)
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        model::testing::{codes, value},
        node,
    };

    #[test]
    fn addresses_have_ports() {
        assert_eq!(value::<SocketAddr>("0.0.0.0:443"), "0.0.0.0:443".parse().ok());
        assert_eq!(value::<SocketAddr>("\"[::]:443\""), "[::]:443".parse().ok());
        for wrong in ["443", "\":443\"", "\"*:443\"", "localhost:443", "0.0.0.0", "1.2.3.4:65536"] {
            assert_eq!(codes::<SocketAddr>(wrong), ["E027"], "{wrong}");
        }
        let socket = Some(AdminAddress::Unix("/run/f.sock".into()));
        assert_eq!(value::<AdminAddress>("unix:/run/f.sock"), socket);
        assert_eq!(codes::<AdminAddress>("unix:f.sock"), ["E027"]);
    }

    #[test]
    fn absolute_paths_from_the_environment_are_shown_as_written() {
        let source = crate::config::source::Source::new(Path::new("/etc/f/t.yaml"), String::new());
        let shown = |text: &str, raw: &str| {
            let scalar = node::Scalar { text: text.into(), raw: Some(raw.into()) };
            let mark = crate::config::source::Mark::start(&source);
            let node = Node { value: node::Value::Scalar(scalar), mark };
            FilePath::read(&node, &mut Findings::default()).unwrap().show()
        };
        assert_eq!(shown("/tls/ca.pem", "${ABS}/ca.pem"), "${ABS}/ca.pem");
        assert_eq!(shown("tls/ca.pem", "${REL}/ca.pem"), "/etc/f/${REL}/ca.pem");
    }

    #[test]
    fn logs_go_to_files_stdout_and_syslog() {
        let shown = |text: &str| value::<LogPath>(text).unwrap().show();
        for path in ["-", "syslog", "syslog:/run/x.sock", "syslog:udp:10.0.0.5:514"] {
            assert_eq!(shown(&format!("\"{path}\"")), Yaml::from(path));
        }
        let udp = Some(LogPath::Syslog(SyslogAddress::Udp("[::1]:514".parse().unwrap())));
        assert_eq!(value::<LogPath>("\"syslog:udp:[::1]:514\""), udp);
        let dev = Some(LogPath::Syslog(SyslogAddress::Unix("/dev/log".into())));
        assert_eq!(value::<LogPath>("syslog"), dev);
        for file in ["./syslog", "syslog.log", "log/syslog"] {
            assert!(matches!(value::<LogPath>(file), Some(LogPath::File(_))), "{file}");
        }
        for wrong in ["syslog:", "syslog:log", "syslog:udp:log:514", "syslog:udp:10.0.0.5"] {
            assert_eq!(codes::<LogPath>(&format!("\"{wrong}\"")), ["E027"], "{wrong}");
        }
    }

    #[test]
    fn networks_are_cidrs_or_addresses() {
        assert!(value::<Cidr>("10.0.0.0/8").is_some());
        assert_eq!(value::<Cidr>("10.1.2.3").unwrap().show(), Yaml::from("10.1.2.3/32"));
        assert_eq!(codes::<Cidr>("10.0.0.0/33"), ["E025"]);
        assert_eq!(codes::<Cidr>("internal"), ["E025"]);
        for (written, meant) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("\"::ffff:10.1.2.3/104\"", "10.0.0.0/8"),
            ("\"::ffff:10.1.2.3\"", "10.1.2.3/32"),
            ("\"::/0\"", "::/0"),
            ("\"2001:db8::7/32\"", "2001:db8::/32"),
        ] {
            let net = value::<Cidr>(written).unwrap().canonical();
            assert_eq!(net.to_string(), meant, "{written}");
        }
    }
}
