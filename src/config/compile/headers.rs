//! Header changes of rules.

use http::{HeaderName, HeaderValue};

use super::templates::{Kind, Scope, template};
use crate::{
    config::{
        code,
        compile::arc,
        diagnostic::Findings,
        model::publish::{self, Headers},
        read::At,
        source::Mark,
    },
    site::{Field, FieldValue, HeaderChanges},
};

/// The changes, without those at fault.
pub(super) fn compile(
    written: Option<&At<publish::HeaderChanges>>,
    scope: Scope,
    findings: &mut Findings,
) -> HeaderChanges {
    let Some(written) = written else { return HeaderChanges::default() };
    let nothing = written.set.is_none() && written.add.is_none() && written.remove.is_none();
    if nothing && !written.broken {
        findings
            .add(code::NOTHING_THERE, &written.mark, "no header is changed")
            .help("add `set`, `add` or `remove`, or delete the line".to_string());
    }
    let mut changes = HeaderChanges {
        set: fields(written.set.as_ref(), scope, findings),
        add: fields(written.add.as_ref(), scope, findings),
        remove: Vec::new(),
    };
    for name in written.remove.iter().flat_map(|list| &list.items) {
        let told = name.told();
        if changeable(&name.0, &told, &name.mark, findings)
            && let Ok(header) = HeaderName::from_bytes(name.0.as_bytes())
        {
            changes.remove.push(header);
        }
    }
    changes
}

fn fields(written: Option<&At<Headers>>, scope: Scope, findings: &mut Findings) -> Vec<Field> {
    let pairs = written.map_or(&[][..], |headers| headers.0.as_slice());
    pairs.iter().filter_map(|(name, value)| field(name, value, scope, findings)).collect()
}

fn field(
    name: &At<String>,
    value: &At<String>,
    scope: Scope,
    findings: &mut Findings,
) -> Option<Field> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        findings
            .add(code::HEADER, &name.mark, format!("`{}` is not a header name", name.value))
            .help("write the name alone: `X-Powered-By`".to_string());
        return None;
    }
    if !changeable(name, name, &name.mark, findings) {
        return None;
    }
    let made = template(value, value.shown(), &value.mark, Kind::Field, scope, findings)?;
    let (mark, told) = (value.mark.clone(), value.raw.clone());
    let fixed = made.fixed().map(HeaderValue::from_str);
    // SECURITY: a line end in a value would begin another header. Test:
    // names_and_values_are_checked
    let fine = value.chars().all(|c| c == '\t' || !c.is_control()) && value.trim() == value.value;
    let value = match fixed {
        _ if !fine => None,
        Some(Err(_)) => None,
        Some(Ok(value)) => Some(FieldValue::Fixed(value)),
        None => Some(FieldValue::Made(made)),
    };
    if value.is_none() {
        findings
            .add(code::HEADER_CHANGE, &mark, format!("`{}` cannot have this value", name.value))
            .help("one line, without control characters and spaces at its ends".to_string());
    }
    Some(Field { name: arc(name), value: value?, told })
}

/// Whether a rule may touch this header.
///
/// SECURITY: these say how a message and its connection are read, or who is signed in on it;
/// changed by hand they would mix up requests, or identities. `_` counts as `-`, as it does for
/// IIS. Test: what_frames_a_message_or_signs_in_is_left_alone
fn changeable(name: &str, told: &str, mark: &Mark, findings: &mut Findings) -> bool {
    let folded = name.to_ascii_lowercase().replace('_', "-");
    let help = match folded.as_str() {
        "host" => "the farm's `host` says which one servers get",
        "connection" | "content-length" | "expect" | "keep-alive" | "te" | "trailer"
        | "transfer-encoding" | "upgrade" => "Frontgate says itself how messages are framed",
        "authorization" | "www-authenticate" => {
            "sign-ins are bound to connections; the farm's `connection_auth` says how"
        }
        _ if folded.starts_with("proxy-") => "it is for this hop alone",
        _ => return true,
    };
    findings
        .add(code::HEADER_CHANGE, mark, format!("`{told}` cannot be changed by a rule"))
        .help(help.to_string());
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{node, read::read_at, source::Source},
        site::PathPattern,
    };

    fn compiled(text: &str) -> (HeaderChanges, Vec<&'static str>) {
        let source = Source::new(std::path::Path::new("t.yaml"), format!("{text}\n"));
        let mut findings = Findings::default();
        let node = node::parse(&source, &mut findings).unwrap();
        let written = read_at(&node, &mut findings);
        let scope = Scope::new(&PathPattern::Any, Some(&[]));
        let changes = compile(written.as_ref(), scope, &mut findings);
        (changes, findings.iter().map(|finding| finding.code.id).collect())
    }

    #[test]
    fn changes_are_made_once() {
        let text = "{ set: { X-A: b, X-B: \"{R:1}\" }, add: { x-c: 'max-age={}' }, remove: [X-D] }";
        let (changes, codes) = compiled(text);
        assert!(codes.is_empty(), "{codes:?}");
        assert_eq!(&*changes.set[0].name, "X-A");
        assert_eq!(changes.set[0].value, FieldValue::Fixed(HeaderValue::from_static("b")));
        assert!(matches!(changes.set[1].value, FieldValue::Made(_)));
        let literal = FieldValue::Fixed(HeaderValue::from_static("max-age={}"));
        assert_eq!(changes.add[0].value, literal);
        assert_eq!(changes.remove, ["x-d"]);
    }

    #[test]
    fn names_and_values_are_checked() {
        for (text, code) in [
            ("{ set: { \"X A\": b } }", "E035"),
            ("{ remove: [\"X:A\"] }", "E035"),
            ("{ set: { X-A: \"a\\r\\nX-B: c\" } }", "E063"),
            ("{ set: { X-A: \"{R:1}\\n\" } }", "E063"),
            ("{ add: { X-A: \" a\" } }", "E063"),
            ("{ set: { X-A: \"{R:7}\" } }", "E062"),
            ("{ set: { X-A: a, x-a: b } }", "E006"),
            ("{ set: { X-A: \"\" } }", "E008"),
            ("{}", "E033"),
        ] {
            assert_eq!(compiled(text).1, [code], "{text}");
        }
    }

    #[test]
    fn a_bad_value_is_pointed_at() {
        let source =
            Source::new(std::path::Path::new("t.yaml"), "{ set: { X-A: \" a\" } }\n".to_string());
        let mut findings = Findings::default();
        let node = node::parse(&source, &mut findings).unwrap();
        let written = read_at(&node, &mut findings);
        compile(written.as_ref(), Scope::new(&PathPattern::Any, Some(&[])), &mut findings);
        let text = crate::config::render::text(&findings, false);
        assert!(text.contains("--> t.yaml:1:15"), "{text}");
    }

    #[test]
    fn what_frames_a_message_or_signs_in_is_left_alone() {
        for name in [
            "Host",
            "CONNECTION",
            "Transfer-Encoding",
            "content_length",
            "Upgrade",
            "Trailer",
            "Expect",
            "TE",
            "Keep-Alive",
            "Proxy-Authorization",
            "Proxy_Connection",
            "Authorization",
            "WWW-Authenticate",
        ] {
            for text in [format!("{{ set: {{ {name}: x }} }}"), format!("{{ remove: [{name}] }}")] {
                let (changes, codes) = compiled(&text);
                assert_eq!(codes, ["E063"], "{text}");
                assert!(changes.is_empty());
            }
        }
    }
}
