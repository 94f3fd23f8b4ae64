//! The table of event codes.
//!
//! A code is stable: it never changes its meaning and is never used again for another one.
//! `docs/reference/events.md` is generated from this table.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Clients notice it, or will soon.
    Error,
}

impl Severity {
    /// `info`, `warning` or `error`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The level of its line in the log.
    pub fn level(self) -> log::Level {
        match self {
            Self::Info => log::Level::Info,
            Self::Warning => log::Level::Warn,
            Self::Error => log::Level::Error,
        }
    }
}

/// A kind of event.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// Stable, `snake_case`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, for people.
    pub text: &'static str,
    /// What its details hold, separated by spaces.
    pub details: &'static str,
}

macro_rules! codes {
    ($($name:ident $id:literal $severity:ident $details:literal $text:literal;)*) => {
        $(#[doc = $text] pub const $name: &Code =
            &Code { id: $id, severity: Severity::$severity, text: $text, details: $details };)*
        /// Every code, in order.
        pub const ALL: &[&Code] = &[$($name),*];
    };
}

codes! {
    CERTIFICATE_EXPIRED "certificate_expired" Error "names not_after place fingerprint"
        "A certificate for clients has expired. Told once for each certificate.";
    CERTIFICATE_EXPIRING "certificate_expiring" Warning "names not_after days place fingerprint"
        "A certificate for clients expires within 30, 14 or 3 days. Told once for each of them.";
    FARM_WITHOUT_SERVERS "farm_without_servers" Error "servers"
        "No server of a farm takes new clients any more: they are answered 503 `no_server`.";
    FARM_SERVES_AGAIN "farm_serves_again" Info "seconds"
        "A farm that had no server has one again that takes new clients.";
    LISTENER_LOST "listener_lost" Error "listener"
        "A refused reload had closed a listener, and its address was taken meanwhile. The next reload opens it again, once the address is free.";
    NEEDS_RESTART "needs_restart" Warning "setting"
        "A reload changed a setting that only a new process brings about; SIGUSR2 starts one.";
    RELOAD_DONE "reload_done" Info "asked listeners farms rules site was findings"
        "A changed configuration is in service.";
    RELOAD_REFUSED "reload_refused" Error "asked error findings"
        "A changed configuration cannot be used; the old one goes on serving.";
    SERVER_ADDRESSES "server_addresses" Info "addresses"
        "The name of a server leads to other addresses than before.";
    SERVER_DOWN "server_down" Warning "reason"
        "Probes, or the name of a server, say that it cannot serve: it gets no traffic.";
    SERVER_DRAINED "server_drained" Info "who why"
        "Somebody drains a server: no new clients, those it has stay.";
    SERVER_EJECTED "server_ejected" Warning "reason seconds"
        "Live traffic says that a server fails: it is out for a while.";
    SERVER_MAINTENANCE "server_maintenance" Info "who why"
        "Somebody took a server out at once.";
    SERVER_NAME_LOST "server_name_lost" Warning "reason"
        "The name of a server does not resolve any more; its last addresses are kept.";
    SERVER_READY "server_ready" Info "who why"
        "Somebody brought a server back.";
    SERVER_RETRIED "server_retried" Info ""
        "The time of a server that was out for failures in live traffic is over: it is tried again.";
    SERVER_RETURNED "server_returned" Info ""
        "A server that was tried again works: it is back for good.";
    SERVER_UP "server_up" Info "seconds"
        "A server that was down gets traffic again.";
    STARTED "started" Info "version listeners farms rules site"
        "Frontgate serves.";
    STOPPING "stopping" Info "signal"
        "Frontgate was told to stop and lets running requests end.";
    UPGRADE_FAILED "upgrade_failed" Warning "reason"
        "The program that was to take over did not get ready; the one before goes on serving.";
    UPGRADED "upgraded" Info "version was process listeners farms rules site"
        "Frontgate has taken over the listening sockets of the process that served before.";
}

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Event codes\n\nThe field `code` of events, and what their `details` may hold besides. \
         Codes are stable; details are\nonly ever added. How to receive events: \
         [events](../events.md). Generated from `src/events/code.rs`.\n\n\
         | code | severity | meaning | details |\n|---|---|---|---|\n",
    );
    for Code { id, severity, text, details } in ALL {
        let details: Vec<_> = details.split_whitespace().map(|key| format!("`{key}`")).collect();
        let (severity, details) = (severity.word(), details.join(", "));
        // Writing into a String cannot fail.
        let _ = writeln!(page, "| `{id}` | {severity} | {text} | {details} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_snake_case_and_unique() {
        for code in ALL {
            assert!(code.id.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", code.id);
            assert!(code.text.ends_with('.'));
            assert_eq!(ALL.iter().filter(|other| other.id == code.id).count(), 1, "{}", code.id);
        }
        assert!(ALL.is_sorted_by_key(|code| code.id.split('_').next()));
    }

    #[test]
    fn the_reference_page_is_current() {
        crate::config::golden::check("docs/reference/events.md", &reference());
    }
}
