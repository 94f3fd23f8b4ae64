//! Presets: a role that expands to settings. Whatever the farm says itself stays.

mod exchange;
#[cfg(test)]
mod reference;

use std::collections::HashMap;

use serde_yaml::Value as Yaml;

pub use self::exchange::Protocol;
use crate::{
    config::{
        diagnostic::Findings,
        model::{
            Config,
            farm::{Farm, Ports},
            name::{HeaderName, PathPrefix},
            probe::Probe,
            publish,
            value::{Port, Size, StatusSet, Timeout},
        },
        node::Node,
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
    /// One protocol of Exchange Server 2013 and later.
    Exchange(Protocol),
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
            Self::Exchange(protocol) => format!("exchange/{}", protocol.word()),
        }
    }

    fn settings(self) -> Settings {
        match self {
            Self::None => NONE,
            Self::Lync => LYNC,
            Self::Owas => OWAS,
            Self::Exchange(protocol) => protocol.settings(),
        }
    }
}

impl Read for Preset {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let found = word(node, WORDS, findings)?;
        Some(match found {
            "lync" => Self::Lync,
            "owas" => Self::Owas,
            _ => found
                .strip_prefix("exchange/")
                .and_then(Protocol::named)
                .map_or(Self::None, Self::Exchange),
        })
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.name())
    }
}

/// What a preset expands to.
#[derive(Clone, Copy)]
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
    /// Largest request body in bytes; `None`: the server decides.
    body_size: Option<u64>,
    /// Whether clients may stay silent inside a request body for as long as servers may.
    trickles: bool,
}

/// A page that tells whether a server works.
#[derive(Clone, Copy)]
struct Page {
    path: &'static str,
    /// Inclusive range.
    status: (u16, u16),
    body: Option<&'static str>,
    /// Whether it is not for people outside.
    private: bool,
}

/// What counts as success where nothing else is said.
const SUCCESS: (u16, u16) = (200, 399);

const NONE: Settings = Settings {
    https: 443,
    http: 80,
    timeout: 200,
    probe: None,
    deny_paths: &[],
    hide_headers: &[],
    plain_paths: &[],
    body_size: None,
    trickles: false,
};

const LYNC: Settings = Settings {
    // The external web site: its ports make the server answer with external names.
    https: 4443,
    http: 8080,
    // COMPAT: UCWA clients hold a request open for up to 1800 s. Test: `lync_fills_in_everything`.
    timeout: 1800,
    // The page Microsoft monitors for fail-over between sites; anonymous, without Accept.
    probe: Some(Page {
        path: "/autodiscover/autodiscoverservice.svc/root",
        status: SUCCESS,
        body: None,
        private: false,
    }),
    // SECURITY: control panel and remote PowerShell are for administrators inside. These are
    // first segments of the path. Where all simple URLs share one host (`/contoso/meet`,
    // `/contoso/admin`), the prefix before them is not known here: deny `/contoso/admin` by a
    // rule. Test: `lync_fills_in_everything`.
    deny_paths: &["/cscp", "/macp", "/ocspowershell", "/admin"],
    hide_headers: HIDDEN,
    // Discovery is the only thing that old clients fetch without TLS.
    plain_paths: &["=/", "/autodiscover"],
    ..NONE
};

const OWAS: Settings = Settings {
    // Converting a large presentation keeps the client waiting for minutes.
    timeout: 600,
    probe: Some(Page {
        path: "/hosting/discovery",
        status: SUCCESS,
        body: Some("wopi-discovery"),
        private: false,
    }),
    hide_headers: HIDDEN,
    ..NONE
};

/// What all protocols of Exchange have in common.
const EXCHANGE: Settings = Settings {
    // Clients keep requests open until something happens.
    timeout: 3600,
    // SECURITY: a rule for a whole host must not publish the administration with it; only
    // `exchange/ecp` is meant for that. Test: `what_is_for_administrators_stays_inside`.
    deny_paths: &["/ecp", "/powershell"],
    hide_headers: HIDDEN_EXCHANGE,
    ..NONE
};

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

/// Fills in what farms and rules leave to presets.
pub fn expand(config: &mut Config) {
    let farms = config.farms.iter_mut().flat_map(|farms| &mut farms.value.items);
    for (name, farm) in farms {
        expand_farm(&mut farm.value, &name.mark);
    }
    let farms = config.farms.iter().flat_map(|farms| &farms.items);
    let farms: HashMap<&str, &Farm> =
        farms.map(|(name, farm)| (name.as_str(), &farm.value)).collect();
    for rule in config.publish.iter_mut().flat_map(|rules| &mut rules.value.items) {
        let farm = rule.farm.as_ref().and_then(|name| farms.get(name.as_str()));
        if let Some(farm) = farm {
            expand_rule(rule, farm);
        }
        deny_on_both(rule);
    }
}

/// What is denied is denied by whichever protocol, unless the rule says by which.
///
/// SECURITY: with conditions a denial on https alone would let plain http pass to a rule that takes
/// both. Test: a_denial_holds_on_both_schemes
fn deny_on_both(rule: &mut At<publish::Rule>) {
    let schemes = &rule.schemes;
    if rule.deny.value && !schemes.explicit && !schemes.fault {
        let both = [publish::Scheme::Https, publish::Scheme::Http];
        rule.value.schemes = At::implied(List::implied(both, &rule.mark), &rule.mark);
    }
}

/// What a rule leaves to the preset of its farm.
fn expand_rule(rule: &mut At<publish::Rule>, farm: &Farm) {
    let settings = farm.preset.settings();
    let mark = rule.mark.clone();
    if let (None, Some(size)) = (&rule.body_size, settings.body_size) {
        rule.value.body_size = Some(At::implied(Size(size), &mark));
    }
    if let (None, true, Some(timeout)) = (&rule.body_timeout, settings.trickles, &farm.timeout) {
        // With its `raw`: what comes from the environment is not shown here either.
        rule.value.body_timeout = Some(At { explicit: false, fault: false, ..timeout.clone() });
    }
}

/// Fills in what the farm leaves to its preset; afterwards no optional setting is empty that a
/// preset could fill.
fn expand_farm(farm: &mut Farm, mark: &Mark) {
    let settings = farm.preset.settings();
    let ports = farm.ports.get_or_insert_with(|| At::implied(Ports::defaults(mark), mark));
    let ports = &mut ports.value;
    ports.https.get_or_insert_with(|| At::implied(Port(settings.https), mark));
    ports.http.get_or_insert_with(|| At::implied(Port(settings.http), mark));
    farm.timeout.get_or_insert_with(|| At::implied(Timeout::secs(settings.timeout), mark));
    expand_probes(farm, &settings, mark);
    farm.deny_paths.get_or_insert_with(|| {
        let page = settings.probe.filter(|page| page.private).map(|page| page.path);
        let paths = settings.deny_paths.iter().copied().chain(page);
        let paths = paths.map(|path| PathPrefix(path.to_ascii_lowercase()));
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
        let status = || At::implied(StatusSet(vec![page.status]), mark);
        probe.value.status.get_or_insert_with(status);
    }
    let single = farm.probe.iter_mut();
    let several = farm.probes.iter_mut().flat_map(|probes| probes.value.items.iter_mut());
    for probe in single.chain(several).filter(|probe| probe.tcp.is_none()) {
        let status = || At::implied(StatusSet(vec![SUCCESS]), mark);
        probe.value.status.get_or_insert_with(status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{node, source::Source};

    pub(super) fn farm(text: &str) -> (Farm, Findings) {
        let source = Source::new(std::path::Path::new("t.yaml"), text.to_string());
        let mut findings = Findings::default();
        let node = node::parse(&source, &mut findings).unwrap();
        let mut farm = Farm::read(&node, &mut findings).unwrap();
        expand_farm(&mut farm, &Mark::start(&source));
        (farm, findings)
    }

    pub(super) fn shown(farm: &Farm, key: &str) -> String {
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
}
