//! How a lab is set up.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use crate::lab::ports::Ports;

/// How a lab is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to leave the files; `None` is a temporary directory that goes away with the lab.
    pub dir: Option<PathBuf>,
    /// SIP domains; the first one carries the pools' names. Default `contoso.com`.
    pub domains: Vec<String>,
    /// Where Frontgate listens. Default 127.0.0.1.
    pub address: Ipv4Addr,
    /// Frontgate's ports, 0 = one that is free. Default 8443 and 8080.
    pub listen: Ports,
    /// Frontgate's admin port on 127.0.0.1, 0 = one that is free. Default 9180.
    pub admin: u16,
    /// Ports of the Front Ends' external site, 0 = the kernel chooses. Default 4443 and 8080.
    pub front_end: Ports,
    /// Ports of the internal site, of Office Web Apps and of Exchange; `None` is 443 and 80 where that is
    /// allowed, otherwise 10443 and 10080.
    pub internal: Option<Ports>,
    /// How long the event channel is held when a request names no `timeout`. Default 180 s.
    pub poll: Duration,
    /// Opens a control port on 127.0.0.1, 0 = the kernel chooses. Default none.
    pub control: Option<u16>,
    /// Frontgate runs elsewhere: its ports may be in use already.
    pub servers_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: None,
            domains: vec!["contoso.com".into()],
            address: Ipv4Addr::LOCALHOST,
            listen: Ports { https: 8443, http: 8080 },
            admin: 9180,
            front_end: Ports { https: 4443, http: 8080 },
            internal: None,
            poll: Duration::from_secs(180),
            control: None,
            servers_only: false,
        }
    }
}

impl Options {
    /// Every port from the kernel, so that several labs run side by side.
    pub fn free_ports() -> Self {
        Self {
            listen: Ports::default(),
            admin: 0,
            front_end: Ports::default(),
            internal: Some(Ports::default()),
            ..Self::default()
        }
    }
}
