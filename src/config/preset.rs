//! Presets: a role that expands to settings. Whatever the farm says itself stays.

use serde_yaml::Value as Yaml;

use crate::{
    config::{
        code,
        diagnostic::Findings,
        model::{
            farm::{Farm, Ports},
            name::{HeaderName, PathPrefix},
            probe::Probe,
            value::{Port, StatusSet, Timeout},
        },
        node::{Node, Value},
        read::{At, List, Read, word},
        record::Record,
        source::Mark,
    },
    site::PathPattern,
};

/// The role of a farm's servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Nothing in particular.
    None,
    /// Front Ends or Directors of Lync Server 2013 and Skype for Business Server: the external
    /// web site.
    Lync,
    /// Office Web Apps Server or Office Online Server.
    Owas,
    /// MAPI over HTTP of Exchange.
    ExchangeMapi,
    /// Outlook Anywhere (RPC over HTTP) of Exchange.
    ExchangeRpc,
    /// Another protocol of Exchange.
    Exchange(&'static str),
}

const WORDS: &[&str] = &[
    "none",
    "lync",
    "owas",
    "exchange/owa",
    "exchange/ecp",
    "exchange/ews",
    "exchange/mapi",
    "exchange/rpc",
    "exchange/oab",
    "exchange/eas",
    "exchange/autodiscover",
];

impl Preset {
    /// As it stands in a file.
    pub fn name(self) -> String {
        match self {
            Self::None => "none".to_string(),
            Self::Lync => "lync".to_string(),
            Self::Owas => "owas".to_string(),
            Self::ExchangeMapi => "exchange/mapi".to_string(),
            Self::ExchangeRpc => "exchange/rpc".to_string(),
            Self::Exchange(protocol) => format!("exchange/{protocol}"),
        }
    }

    fn settings(self) -> &'static Settings {
        match self {
            Self::None | Self::Exchange(_) => &NONE,
            Self::Lync => &LYNC,
            Self::Owas => &OWAS,
            Self::ExchangeMapi => &EXCHANGE_MAPI,
            Self::ExchangeRpc => &EXCHANGE_RPC,
        }
    }
}

impl Read for Preset {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let found = word(node, WORDS, findings)?;
        let shown = match &node.value {
            Value::Scalar(scalar) => scalar.shown(),
            _ => found,
        };
        match found {
            "exchange/mapi" => return Some(Self::ExchangeMapi),
            "exchange/rpc" => return Some(Self::ExchangeRpc),
            _ => {}
        }
        if let Some(protocol) = found.strip_prefix("exchange/") {
            findings
                .add(
                    code::NOT_AVAILABLE,
                    &node.mark,
                    format!("preset `{shown}` is not available yet"),
                )
                .help("use `preset: none` and set `timeout`, `probe` and `deny_paths`".to_string());
            return Some(Self::Exchange(protocol));
        }
        Some(match found {
            "lync" => Self::Lync,
            "owas" => Self::Owas,
            _ => Self::None,
        })
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.name())
    }
}

/// What a preset expands to.
struct Settings {
    https: u16,
    http: u16,
    /// Seconds.
    timeout: u64,
    probe: Option<Page>,
    deny_paths: &'static [&'static str],
    hide_headers: &'static [&'static str],
    /// `=` in front: exact.
    plain_paths: &'static [&'static str],
}

/// A page that tells whether a server works.
struct Page {
    path: &'static str,
    body: Option<&'static str>,
}

const NONE: Settings = Settings {
    https: 443,
    http: 80,
    timeout: 200,
    probe: None,
    deny_paths: &[],
    hide_headers: &[],
    plain_paths: &[],
};

const LYNC: Settings = Settings {
    // The external web site: its ports make the server answer with external names.
    https: 4443,
    http: 8080,
    // COMPAT: UCWA clients hold a request open for up to 1800 s. Test: `lync_fills_in_everything`.
    timeout: 1800,
    // The page Microsoft monitors for fail-over between sites; anonymous, without Accept.
    probe: Some(Page { path: "/autodiscover/autodiscoverservice.svc/root", body: None }),
    // SECURITY: control panel and remote PowerShell are for administrators inside. These are
    // first segments of the path. Where all simple URLs share one host (`/contoso/meet`,
    // `/contoso/admin`), the prefix before them is not known here: deny `/contoso/admin` by a
    // rule. Test: `lync_fills_in_everything`.
    deny_paths: &["/cscp", "/macp", "/ocspowershell", "/admin"],
    hide_headers: HIDDEN,
    // Discovery is the only thing that old clients fetch without TLS.
    plain_paths: &["=/", "/autodiscover"],
};

const OWAS: Settings = Settings {
    https: 443,
    http: 80,
    // Converting a large presentation keeps the client waiting for minutes.
    timeout: 600,
    probe: Some(Page { path: "/hosting/discovery", body: Some("wopi-discovery") }),
    deny_paths: &[],
    hide_headers: HIDDEN,
    plain_paths: &[],
};

const EXCHANGE_MAPI: Settings = Settings {
    https: 443,
    http: 80,
    // Clients keep a notification request open.
    timeout: 3600,
    // Managed Availability answers 200 while it considers the protocol in service.
    probe: Some(Page { path: "/mapi/healthcheck.htm", body: None }),
    deny_paths: &[],
    hide_headers: HIDDEN_EXCHANGE,
    plain_paths: &[],
};

const EXCHANGE_RPC: Settings =
    Settings { probe: Some(Page { path: "/rpc/healthcheck.htm", body: None }), ..EXCHANGE_MAPI };

// COMPAT: `X-Ms-diagnostics` is not among them; clients choose what to try next by it.
const HIDDEN: &[&str] =
    &["server", "x-aspnet-version", "x-aspnetmvc-version", "x-ms-server-fqdn", "x-powered-by"];

/// Of Exchange: what its front end tells about servers inside as well.
const HIDDEN_EXCHANGE: &[&str] = &[
    "server",
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "x-beserver",
    "x-calculatedbetarget",
    "x-diaginfo",
    "x-feserver",
    "x-ms-server-fqdn",
    "x-powered-by",
];

/// Fills in what the farm leaves to its preset; afterwards no optional setting is empty that a
/// preset could fill.
pub fn expand(farm: &mut Farm, mark: &Mark) {
    let settings = farm.preset.settings();
    let ports = farm.ports.get_or_insert_with(|| At::implied(Ports::defaults(mark), mark));
    let ports = &mut ports.value;
    ports.https.get_or_insert_with(|| At::implied(Port(settings.https), mark));
    ports.http.get_or_insert_with(|| At::implied(Port(settings.http), mark));
    farm.timeout.get_or_insert_with(|| At::implied(Timeout::secs(settings.timeout), mark));
    expand_probes(farm, settings, mark);
    farm.deny_paths.get_or_insert_with(|| {
        let paths = settings.deny_paths.iter().map(|path| PathPrefix((*path).to_string()));
        At::implied(List::implied(paths, mark), mark)
    });
    farm.hide_headers.get_or_insert_with(|| {
        let names = settings.hide_headers.iter().map(|name| HeaderName((*name).to_string()));
        At::implied(List::implied(names, mark), mark)
    });
    farm.plain_paths.get_or_insert_with(|| {
        let paths = settings.plain_paths.iter().map(|path| match path.strip_prefix('=') {
            Some(exact) => PathPattern::Exact(exact.into()),
            None => PathPattern::Prefix((*path).into()),
        });
        At::implied(List::implied(paths, mark), mark)
    });
}

fn expand_probes(farm: &mut Farm, settings: &Settings, mark: &Mark) {
    if farm.probe.is_none() && farm.probes.is_none() && settings.probe.is_some() {
        farm.probe = Some(At::implied(Probe::defaults(mark), mark));
    }
    if let Some(probe) = &mut farm.probe
        && let Some(page) = &settings.probe
        && probe.tcp.is_none()
        && probe.path.is_none()
    {
        probe.value.path = Some(At::implied(page.path.to_string(), mark));
        if let (None, Some(body)) = (&probe.body, page.body) {
            probe.value.body = Some(At::implied(body.to_string(), mark));
        }
    }
    let single = farm.probe.iter_mut();
    let several = farm.probes.iter_mut().flat_map(|probes| probes.value.items.iter_mut());
    for probe in single.chain(several).filter(|probe| probe.tcp.is_none()) {
        let status = || At::implied(StatusSet(vec![(200, 399)]), mark);
        probe.value.status.get_or_insert_with(status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{node, source::Source};

    fn farm(text: &str) -> (Farm, Findings) {
        let source = Source::new(std::path::Path::new("t.yaml"), text.to_string());
        let mut findings = Findings::default();
        let node = node::parse(&source, &mut findings).unwrap();
        let mut farm = Farm::read(&node, &mut findings).unwrap();
        expand(&mut farm, &Mark::start(&source));
        (farm, findings)
    }

    fn shown(farm: &Farm, key: &str) -> String {
        serde_yaml::to_string(&farm.show()[key]).unwrap()
    }

    #[test]
    fn lync_fills_in_everything() {
        let (farm, findings) = farm("preset: lync\nservers: [fe]\n");
        assert!(findings.is_empty());
        assert_eq!(shown(&farm, "ports"), "https: 4443\nhttp: 8080\n");
        assert_eq!(shown(&farm, "timeout"), "30m\n");
        assert_eq!(shown(&farm, "deny_paths"), "- /cscp\n- /macp\n- /ocspowershell\n- /admin\n");
        assert_eq!(shown(&farm, "plain_paths"), "- =/\n- /autodiscover\n");
        assert_eq!(
            shown(&farm, "probe"),
            "path: /autodiscover/autodiscoverservice.svc/root\nstatus: 200-399\ninterval: 30s\n\
             timeout: 10s\nrise: 2\nfall: 3\n"
        );
        assert!(!shown(&farm, "hide_headers").contains("diagnostics"));
    }

    #[test]
    fn the_farm_overrides_its_preset() {
        let (farm, _) = farm(
            "preset: owas\nservers: [s]\nports: {https: 8443}\ntimeout: 90s\ndeny_paths: []\n\
             probe: {interval: 7s}\nhide_headers: [server]\nplain_paths: [/a]\n",
        );
        assert_eq!(shown(&farm, "ports"), "https: 8443\nhttp: 80\n");
        assert_eq!(shown(&farm, "timeout"), "1m 30s\n");
        assert_eq!(shown(&farm, "deny_paths"), "[]\n");
        assert_eq!(shown(&farm, "hide_headers"), "- server\n");
        let probe = shown(&farm, "probe");
        assert!(probe.contains("wopi-discovery") && probe.contains("interval: 7s"), "{probe}");
    }

    #[test]
    fn probes_can_be_replaced_or_switched_off() {
        assert_eq!(shown(&farm("preset: lync\nservers: [s]\nprobes: []\n").0, "probe"), "null\n");
        let (tcp, _) = farm("preset: lync\nservers: [s]\nprobe: {tcp: 5061}\n");
        assert!(tcp.probe.as_ref().unwrap().path.is_none());
        assert!(farm("servers: [s]\n").0.probe.is_none());
    }

    #[test]
    fn exchange_streams_have_their_time_and_their_probe() {
        for (preset, page) in [("rpc", "/rpc/healthcheck.htm"), ("mapi", "/mapi/healthcheck.htm")] {
            let (farm, findings) = farm(&format!("preset: exchange/{preset}\nservers: [s]\n"));
            assert!(findings.is_empty());
            assert_eq!(shown(&farm, "timeout"), "1h\n");
            assert!(shown(&farm, "probe").contains(page));
        }
    }

    #[test]
    fn exchange_hides_its_servers_but_not_its_diagnostics() {
        let (farm, _) = farm("preset: exchange/mapi\nservers: [s]\n");
        let hidden = shown(&farm, "hide_headers");
        for name in
            HIDDEN.iter().chain(&["x-feserver", "x-beserver", "x-calculatedbetarget", "x-diaginfo"])
        {
            assert!(hidden.contains(&format!("- {name}\n")), "{name} is not in {hidden}");
        }
        assert!(!hidden.contains("diagnostics"));
    }

    #[test]
    fn other_exchange_protocols_are_known_but_not_there() {
        let (_, findings) = farm("preset: exchange/ews\nservers: [s]\n");
        assert_eq!(findings.iter().map(|f| f.code.id).collect::<Vec<_>>(), ["E011"]);
        let (_, findings) = farm("preset: exchange/ewz\nservers: [s]\n");
        assert_eq!(findings.iter().map(|f| f.code.id).collect::<Vec<_>>(), ["E010"]);
    }
}
