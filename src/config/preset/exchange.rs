//! The protocols of Exchange, each with a virtual directory and a health of its own.

use super::{EXCHANGE, Page, Settings};

/// A client protocol of Exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Outlook on the web (Outlook Web App).
    Owa,
    /// Exchange admin center, and the options of Outlook on the web.
    Ecp,
    /// Exchange Web Services.
    Ews,
    /// MAPI over HTTP.
    Mapi,
    /// Outlook Anywhere (RPC over HTTP).
    Rpc,
    /// The offline address book.
    Oab,
    /// Exchange ActiveSync.
    Eas,
    /// Autodiscover.
    Autodiscover,
}

const MIB: u64 = 1 << 20;

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 8] = [
        Self::Owa,
        Self::Ecp,
        Self::Ews,
        Self::Mapi,
        Self::Rpc,
        Self::Oab,
        Self::Eas,
        Self::Autodiscover,
    ];

    /// What stands behind `exchange/`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Owa => "owa",
            Self::Ecp => "ecp",
            Self::Ews => "ews",
            Self::Mapi => "mapi",
            Self::Rpc => "rpc",
            Self::Oab => "oab",
            Self::Eas => "eas",
            Self::Autodiscover => "autodiscover",
        }
    }

    /// The protocol of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.word() == word)
    }

    /// Its virtual directory, with the slash in front.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Owa => "/owa",
            Self::Ecp => "/ecp",
            Self::Ews => "/ews",
            Self::Mapi => "/mapi",
            Self::Rpc => "/rpc",
            Self::Oab => "/oab",
            Self::Eas => "/Microsoft-Server-ActiveSync",
            Self::Autodiscover => "/autodiscover",
        }
    }

    /// Sizes are 64 MiB or more, above what Exchange itself allows by default, so that its own limit is what
    /// people meet, also after it has been raised a little.
    pub(super) fn settings(self) -> Settings {
        let (page, settings) = match self {
            // Exchange: 35,000,000 bytes.
            Self::Owa => {
                ("/owa/healthcheck.htm", Settings { body_size: Some(64 * MIB), ..EXCHANGE })
            }
            Self::Ecp => (
                "/ecp/healthcheck.htm",
                Settings { body_size: Some(64 * MIB), deny_paths: &["/powershell"], ..EXCHANGE },
            ),
            // Exchange: 64 MiB. Streaming notifications stay open for 30 minutes.
            Self::Ews => {
                ("/ews/healthcheck.htm", Settings { body_size: Some(128 * MIB), ..EXCHANGE })
            }
            Self::Mapi => (
                "/mapi/healthcheck.htm",
                Settings { body_size: Some(64 * MIB), trickles: true, ..EXCHANGE },
            ),
            // COMPAT: `RPC_IN_DATA` announces a body of 1 GiB and sends it for as long as the
            // session lasts. Test: `an_announced_gigabyte_is_outlook_anywhere`.
            Self::Rpc => ("/rpc/healthcheck.htm", Settings { trickles: true, ..EXCHANGE }),
            Self::Oab => {
                ("/oab/healthcheck.htm", Settings { body_size: Some(64 * MIB), ..EXCHANGE })
            }
            // Exchange: 10 MiB, and often raised. COMPAT: a phone's Ping may ask for 59 minutes.
            // Test: `every_protocol_has_its_page_its_time_and_its_size`.
            Self::Eas => (
                "/Microsoft-Server-ActiveSync/healthcheck.htm",
                Settings { body_size: Some(64 * MIB), ..EXCHANGE },
            ),
            Self::Autodiscover => (
                "/autodiscover/healthcheck.htm",
                Settings { body_size: Some(64 * MIB), ..EXCHANGE },
            ),
        };
        Settings {
            probe: Some(Page {
                path: page,
                // Managed Availability takes the protocol out of service by not answering 200;
                // a redirect is an answer of something else.
                status: (200, 200),
                body: None,
                // SECURITY: it says the server's inside name. Test:
                // `what_is_for_administrators_stays_inside`.
                private: true,
            }),
            ..settings
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset::{
        Preset, WORDS,
        tests::{farm, shown},
    };

    #[test]
    fn every_word_is_a_preset() {
        for protocol in Protocol::ALL {
            let name = Preset::Exchange(protocol).name();
            assert!(WORDS.contains(&name.as_str()), "{name}");
            assert_eq!(Protocol::named(protocol.word()), Some(protocol));
        }
        assert_eq!(WORDS.len(), 3 + Protocol::ALL.len());
        let (_, findings) = farm("preset: exchange/ewz\nservers: [s]\n");
        assert_eq!(findings.iter().map(|f| f.code.id).collect::<Vec<_>>(), ["E010"]);
    }

    #[test]
    fn every_protocol_has_its_page_its_time_and_its_size() {
        for (word, directory, size) in [
            ("owa", "/owa", Some(64)),
            ("ecp", "/ecp", Some(64)),
            ("ews", "/ews", Some(128)),
            ("mapi", "/mapi", Some(64)),
            ("rpc", "/rpc", None),
            ("oab", "/oab", Some(64)),
            ("eas", "/Microsoft-Server-ActiveSync", Some(64)),
            ("autodiscover", "/autodiscover", Some(64)),
        ] {
            let (farm, findings) = farm(&format!("preset: exchange/{word}\nservers: [s]\n"));
            assert!(findings.is_empty(), "{word}");
            assert_eq!(farm.preset.value, Preset::Exchange(Protocol::named(word).unwrap()));
            assert_eq!(shown(&farm, "timeout"), "1h\n", "{word}");
            assert_eq!(shown(&farm, "ports"), "https: 443\nhttp: 80\n", "{word}");
            assert_eq!(shown(&farm, "connection_auth"), "auto\n", "{word}");
            assert_eq!(
                shown(&farm, "probe"),
                format!(
                    "path: {directory}/healthcheck.htm\nstatus: '200'\ninterval: 30s\n\
                     timeout: 10s\nrise: 2\nfall: 3\n"
                ),
                "{word}"
            );
            let protocol = Protocol::named(word).unwrap();
            assert_eq!(protocol.directory(), directory);
            assert_eq!(protocol.settings().body_size, size.map(|size| size * MIB), "{word}");
        }
    }

    #[test]
    fn what_is_for_administrators_stays_inside() {
        let denied = |word: &str| {
            shown(&farm(&format!("preset: exchange/{word}\nservers: [s]\n")).0, "deny_paths")
        };
        assert_eq!(denied("owa"), "- /ecp\n- /powershell\n- /owa/healthcheck.htm\n");
        assert_eq!(denied("ecp"), "- /powershell\n- /ecp/healthcheck.htm\n");
        let phones = denied("eas");
        assert!(phones.ends_with("- /microsoft-server-activesync/healthcheck.htm\n"), "{phones}");
    }

    #[test]
    fn another_page_brings_its_own_status() {
        let (farm, _) = farm("preset: exchange/owa\nservers: [s]\nprobe: { path: /x }\n");
        assert!(shown(&farm, "probe").starts_with("path: /x\nstatus: 200-399\n"));
    }
}
