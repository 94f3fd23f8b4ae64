//! Where traces go.

use http::{HeaderName, HeaderValue};

use super::endpoint;
use crate::{
    config::{code, diagnostic::Findings, model::Config, read::At},
    site::{Endpoint, Traces},
};

/// Where collectors take traces (OTLP/HTTP), if the URL does not say.
const PATH: &str = "/v1/traces";

/// Fields that say how the message is framed, or what Frontgate itself writes into them.
const OURS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "transfer-encoding",
    "user-agent",
];

pub(super) fn compile(config: &Config, findings: &mut Findings) -> Option<Traces> {
    let traces = config.traces.as_ref()?;
    let headers = traces.headers.iter().flat_map(|headers| &headers.0.0);
    let headers = headers.filter_map(|(name, value)| header(name, value, findings)).collect();
    Some(Traces {
        endpoint: target(traces.endpoint.as_ref()?, findings)?,
        sample: traces.sample.0,
        headers,
        service_name: traces.service_name.value.clone(),
    })
}

fn target(url: &At<String>, findings: &mut Findings) -> Option<Endpoint> {
    let mut parsed = endpoint::parse(url);
    match &mut parsed {
        Err(why) => {
            findings
                .add(code::TRACES, &url.mark, format!("`endpoint` {why}"))
                .help(format!("`https://host:4318{PATH}`, where the certificate is for that host"));
        }
        Ok(to) => {
            if !to.https && !endpoint::is_here(&to.host) {
                findings
                    .add(code::PLAIN_TRACES, &url.mark, "traces leave this machine unencrypted")
                    .help("use https; http is fine on this machine".to_string());
            }
            if to.target == "/" {
                to.target = PATH.to_owned();
            }
        }
    }
    parsed.ok()
}

/// A header field for the collector. No finding shows its value.
fn header(
    name: &At<String>,
    value: &At<String>,
    findings: &mut Findings,
) -> Option<(HeaderName, HeaderValue)> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        findings
            .add(code::HEADER, &name.mark, format!("`{}` is not a header name", name.value))
            .help("write the name alone: `Authorization`".to_string());
        return None;
    };
    if OURS.contains(&header.as_str()) {
        findings
            .add(code::TRACES, &name.mark, format!("`{}` is not for you to set", name.value))
            .help("remove it: Frontgate says itself what it sends".to_string());
        return None;
    }
    // Printable text, so that nothing can begin another header.
    match HeaderValue::from_str(value).ok().filter(|_| value.trim() == value.value) {
        Some(mut value) => {
            value.set_sensitive(true);
            Some((header, value))
        }
        None => {
            let message = format!("`{}` cannot have this value", name.value);
            findings.add(code::TRACES, &name.mark, message).help(
                "one line of ASCII, without control characters and spaces at its ends".to_string(),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn load(traces: &str) -> config::Outcome {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frontgate.yaml");
        let text = format!(
            "state_dir: s\ntraces: {traces}\nlisteners: [{{ address: \"127.0.0.1:0\" }}]\n\
             farms: {{ web: {{ bridge: http, servers: [127.0.0.1] }} }}\n\
             publish: [{{ host: a.contoso.com, farm: web, schemes: [http] }}]\n"
        );
        std::fs::write(&path, text).unwrap();
        config::load_with(&path, &|name| (name == "T").then(|| "sentinel".to_owned()))
    }

    fn traces(text: &str) -> Traces {
        let outcome = load(text);
        let site = outcome.site.unwrap_or_else(|| panic!("{:?}", outcome.findings));
        site.traces.clone().unwrap()
    }

    #[test]
    fn the_path_of_otlp_is_understood() {
        let least = traces("{ endpoint: \"https://otel.contoso.com:4318\" }");
        assert_eq!((least.endpoint.https, least.endpoint.port), (true, 4318));
        assert_eq!(least.endpoint.target, "/v1/traces");
        assert_eq!((least.sample, &*least.service_name), (100, "frontgate"));
        let own = traces("{ endpoint: \"http://127.0.0.1/x?y\", sample: 5%, service_name: edge }");
        assert_eq!(own.endpoint.target, "/x?y");
        assert_eq!((own.sample, &*own.service_name), (5, "edge"));
    }

    #[test]
    fn headers_are_not_told() {
        let text = "{ endpoint: \"http://127.0.0.1\", \
                    headers: { Authorization: \"Bearer ${T}\", X-Key: literal } }";
        let outcome = load(text);
        let site = outcome.site.unwrap();
        let traces = site.traces.as_ref().unwrap();
        let sent: Vec<_> = traces.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        assert_eq!(sent, [("authorization", &b"Bearer sentinel"[..]), ("x-key", &b"literal"[..])]);
        let effective = outcome.effective.unwrap();
        assert!(effective.contains("Bearer ${T}") && effective.contains("***"), "{effective}");
        for told in [effective, format!("{site:?}"), format!("{:?}", traces.headers)] {
            assert!(!told.contains("sentinel") && !told.contains("literal"), "{told}");
        }
    }

    #[test]
    fn what_frontgate_writes_itself_is_refused() {
        for ours in OURS {
            let text = format!("{{ endpoint: \"http://127.0.0.1\", headers: {{ {ours}: x }} }}");
            let codes: Vec<_> = load(&text).findings.iter().map(|f| f.code.id).collect();
            assert_eq!(codes, ["E072"], "{ours}");
        }
    }
}
