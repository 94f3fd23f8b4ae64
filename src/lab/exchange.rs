//! The virtual directories of an Exchange server, and what Managed Availability makes of them.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::{
    config::preset::Protocol,
    lab::{
        context::Context,
        message::Answer,
        pages,
        sites::{Action, not_found},
    },
};

/// The page that tells whether a protocol is in service, below its virtual directory.
pub(super) const HEALTH_PAGE: &str = "healthcheck.htm";

/// The protocols that Managed Availability took out of service; none at first.
#[derive(Debug, Default)]
pub(super) struct OutOfService(AtomicU8);

impl OutOfService {
    pub(super) fn set(&self, protocol: Protocol, out: bool) {
        let bit = bit(protocol);
        if out {
            self.0.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    pub(super) fn contains(&self, protocol: Protocol) -> bool {
        self.0.load(Ordering::Relaxed) & bit(protocol) != 0
    }
}

fn bit(protocol: Protocol) -> u8 {
    Protocol::ALL.iter().position(|other| *other == protocol).map_or(0, |index| 1 << index)
}

/// Answers below a virtual directory. Plain HTTP serves them too, as with SSL offloading.
pub(super) fn action(context: &Context, directory: &str, below: &[String]) -> Action {
    let named = |protocol: &Protocol| {
        protocol.directory().strip_prefix('/').is_some_and(|it| it.eq_ignore_ascii_case(directory))
    };
    let Some(protocol) = Protocol::ALL.into_iter().find(named) else { return not_found() };
    if let [page] = below
        && page == HEALTH_PAGE
    {
        return Action::Answer(health(context, protocol));
    }
    Action::Answer(match protocol {
        Protocol::Owa => pages::outlook(context),
        Protocol::Ecp => pages::control_panel(context),
        Protocol::Eas => Answer::error(401, "Unauthorized")
            .with("WWW-Authenticate", format!("Basic realm=\"{}\"", context.estate.mail)),
        Protocol::Ews | Protocol::Mapi | Protocol::Rpc | Protocol::Oab | Protocol::Autodiscover => {
            return Action::Windows;
        }
    })
}

fn health(context: &Context, protocol: Protocol) -> Answer {
    if context.out_of_service.contains(protocol) {
        return Answer::error(503, "Service Unavailable");
    }
    Answer::html(200, format!("200 OK<br/>{}", context.server.fqdn.to_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_goes_out_of_service_alone() {
        let out = OutOfService::default();
        for protocol in Protocol::ALL {
            out.set(protocol, true);
            let all: Vec<_> = Protocol::ALL.into_iter().filter(|it| out.contains(*it)).collect();
            assert_eq!(all, [protocol]);
            out.set(protocol, false);
        }
        assert!(!out.contains(Protocol::Owa));
    }
}
