//! Which path of which web site answers what: pure functions of the request.

use crate::lab::{
    autodiscover,
    context::Context,
    estate::SiteKind,
    exchange,
    message::{Answer, Request},
    pages, tickets,
    tools::Tool,
    ucwa::{self, Poll, Ucwa},
};

/// What to do with a request.
pub(super) enum Action {
    /// Take the body, then answer.
    Answer(Answer),
    /// The answer depends on the body.
    WithBody(fn(&Context, &Request, &[u8]) -> Answer),
    /// Sign the caller in, then say who it is.
    Windows,
    /// Hold the event channel.
    Hold(Poll),
    /// One of the tools for tests below `/lab`.
    Tool(Tool),
}

/// Directories with Windows authentication; all but the last also exist on the external site.
const WINDOWS: [&str; 6] =
    ["abs", "certprov", "groupexpansion", "mcx", "requesthandlerext", "rgsclients"];
const WINDOWS_INTERNAL: [&str; 3] = ["locationinformation", "ocspowershell", "requesthandler"];

/// Decides what to do with a request.
pub(super) fn action(context: &Context, request: &Request) -> Action {
    let Some(path) = &request.path else {
        return Action::Answer(Answer::error(400, "Bad Request"));
    };
    if request.host.is_empty() {
        return Action::Answer(Answer::error(400, "Bad Request - Invalid Hostname"));
    }
    if let Some(("lab", below)) = first(path) {
        return match Tool::new(request, below) {
            Some(tool) => Action::Tool(tool),
            None => not_found(),
        };
    }
    match context.site {
        SiteKind::OfficeWebApps => Action::Answer(office_web_apps(context, path)),
        SiteKind::Exchange => match first(path) {
            Some((directory, below)) => exchange::action(context, directory, below),
            None => not_found(),
        },
        SiteKind::External | SiteKind::Internal => front_end(context, request, path),
    }
}

fn front_end(context: &Context, request: &Request, path: &[String]) -> Action {
    let internal = context.site == SiteKind::Internal;
    let Some((directory, below)) = first(path) else { return root(context, request) };
    if directory == "autodiscover" {
        return autodiscover(context, request, below);
    }
    // The directories require TLS; only autodiscover answers plain HTTP.
    if !context.tls {
        return Action::Answer(Answer::error(403, "Forbidden: SSL required"));
    }
    if WINDOWS.contains(&directory) || (internal && WINDOWS_INTERNAL.contains(&directory)) {
        return Action::Windows;
    }
    Action::Answer(match directory {
        "webticket" => return web_ticket(context, request, below),
        "ucwa" => {
            return match ucwa::answer(context, request, below) {
                Ucwa::Answer(answer) => Action::Answer(answer),
                Ucwa::Hold(poll) => Action::Hold(poll),
            };
        }
        "meet" => pages::meet(context, request, below),
        "dialin" => pages::dialin(context),
        "scheduler" => pages::scheduler(context),
        "lwa" => pages::web_app(context),
        "persistentchat" if below.first().is_some_and(|next| next == "rm") => {
            pages::persistent_chat()
        }
        "reach" if below.first().is_some_and(|next| next == "sip.svc") => {
            tickets::challenge(context, request)
        }
        "passiveauth" => passive_auth(context, request),
        "macp" => pages::control_panel(context),
        "cscp" if internal => pages::control_panel(context),
        // A simple URL has the meeting right below its host: meet.contoso.com/alice/ABC.
        _ if request.host.starts_with("meet.") => pages::meet(context, request, path),
        _ => return not_found(),
    })
}

/// `/` means another thing under each name, as the URL rewriting of a Front End has it.
fn root(context: &Context, request: &Request) -> Action {
    let label = request.host.split('.').next().unwrap_or_default();
    match label {
        "lyncdiscover" | "lyncdiscoverinternal" => {
            Action::Answer(autodiscover::answer(context, request, &[]))
        }
        _ if !context.tls => Action::Answer(Answer::error(403, "Forbidden: SSL required")),
        "meet" => Action::Answer(pages::meet(context, request, &[])),
        "dialin" => Action::Answer(pages::dialin(context)),
        _ => Action::Answer(Answer::error(403, "Forbidden: Access is denied")),
    }
}

fn autodiscover(context: &Context, request: &Request, below: &[String]) -> Action {
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    match below.as_slice() {
        ["autodiscoverservice.svc", "root", rest @ ..] => {
            let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
            Action::Answer(autodiscover::answer(context, request, &rest))
        }
        ["xframe", "xframe.html"] if context.tls => Action::Answer(autodiscover::xframe()),
        _ => not_found(),
    }
}

fn web_ticket(context: &Context, request: &Request, below: &[String]) -> Action {
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    match below.as_slice() {
        ["oauthtoken"] => Action::WithBody(tickets::oauth_token),
        ["webticketservice.svc", "mex"] => Action::Answer(tickets::metadata(context, request)),
        ["webticketservice.svc", "auth"] => Action::WithBody(tickets::soap),
        ["webticketservice.svc"] => Action::Windows,
        _ => not_found(),
    }
}

/// Sends the browser on to the federation server.
fn passive_auth(context: &Context, request: &Request) -> Answer {
    let web = context.names(&request.host).web;
    let domain = context.estate.first_domain();
    Answer::error(302, "Found").with(
        "Location",
        format!(
            "https://adfs.{domain}/adfs/ls/?wa=wsignin1.0&wtrealm=https%3A%2F%2F{web}%2Fpassiveauth"
        ),
    )
}

fn office_web_apps(context: &Context, path: &[String]) -> Answer {
    match first(path) {
        Some(("hosting", below)) if below.first().is_some_and(|next| next == "discovery") => {
            pages::wopi_discovery(context)
        }
        Some(("op" | "we" | "wv" | "p" | "m" | "x" | "o", _)) => pages::viewer(context),
        _ => Answer::error(404, "Not Found"),
    }
}

fn first(path: &[String]) -> Option<(&str, &[String])> {
    path.split_first().map(|(first, rest)| (first.as_str(), rest))
}

pub(super) fn not_found() -> Action {
    Action::Answer(Answer::error(404, "Not Found"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::preset::Protocol, lab::context::tests::context};

    fn ask(context: &Context, host: &str, target: &str) -> Answer {
        let mut header =
            pingora::http::RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        header.append_header("Host", host.to_owned()).unwrap();
        match action(context, &Request::new(&header)) {
            Action::Answer(answer) => answer,
            Action::WithBody(answer) => answer(context, &Request::new(&header), b""),
            Action::Windows => tickets::windows(),
            Action::Hold(_) | Action::Tool(_) => panic!("{target} is not answered at once"),
        }
    }

    fn body(answer: &Answer) -> String {
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    #[test]
    fn every_published_page_is_there_whatever_its_letter_case() {
        let context = context("fe01", SiteKind::External, true);
        for (host, target, expected) in [
            ("meet.contoso.com", "/meet/alice/x7k2", "reachURL"),
            ("meet.contoso.com", "/Alice/X7K2", "id:X7K2"),
            ("meet.contoso.com", "/", "troubleshooting"),
            ("lyncweb.contoso.com", "/Meet/", "troubleshooting"),
            ("dialin.contoso.com", "/", "Dial-in Conferencing"),
            ("lyncweb.contoso.com", "/DIALIN/", "Dial-in Conferencing"),
            ("lyncweb.contoso.com", "/Scheduler/", "<!-- Web Scheduler Version"),
            ("lyncweb.contoso.com", "/persistentchat/RM/", "Manage PersistentChat Rooms"),
            ("lyncweb.contoso.com", "/WebTicket/WebTicketService.svc/mex", "wsdl:definitions"),
            ("lyncweb.contoso.com", "/Autodiscover/XFrame/XFrame.html", "XFrame"),
            ("lyncdiscover.contoso.com", "/", "AccessLocation"),
        ] {
            let answer = ask(&context, host, target);
            assert_eq!(answer.status, 200, "{host}{target}");
            assert!(body(&answer).contains(expected), "{host}{target}: {}", body(&answer));
            assert!(!body(&answer).contains("webint-"), "{host}{target}: {}", body(&answer));
        }
    }

    #[test]
    fn windows_directories_answer_401_with_two_lines() {
        let context = context("fe02", SiteKind::External, true);
        for target in [
            "/abs/",
            "/GroupExpansion/service.svc",
            "/CertProv/CertProvisioningService.svc",
            "/Mcx/McxService.svc",
            "/RgsClients/AgentService.svc",
            "/RequestHandlerExt/ucdevice.upx",
            "/WebTicket/WebTicketService.svc",
        ] {
            let answer = ask(&context, "lyncweb.contoso.com", target);
            assert_eq!(answer.status, 401, "{target}");
            let lines: Vec<_> = answer
                .headers
                .iter()
                .filter(|(name, _)| *name == "WWW-Authenticate")
                .map(|(_, value)| value.as_str())
                .collect();
            assert_eq!(lines, ["Negotiate", "NTLM"], "{target}");
        }
    }

    #[test]
    fn the_control_panel_is_on_the_internal_site_only_but_macp_on_both() {
        let external = context("fe01", SiteKind::External, true);
        let internal = context("fe01", SiteKind::Internal, true);
        assert_eq!(ask(&external, "lyncweb.contoso.com", "/cscp/").status, 404);
        assert_eq!(ask(&internal, "lyncweb.contoso.com", "/cscp/").status, 200);
        assert_eq!(ask(&external, "lyncweb.contoso.com", "/macp/").status, 200);
        assert_eq!(ask(&external, "lyncweb.contoso.com", "/meet/..%2fmacp").status, 200);
    }

    #[test]
    fn plain_http_serves_autodiscover_and_nothing_else() {
        let context = context("fe01", SiteKind::External, false);
        assert_eq!(ask(&context, "meet.contoso.com", "/meet/a/b").status, 403);
        assert_eq!(ask(&context, "lyncdiscover.contoso.com", "/").status, 200);
        let target = "/autodiscover/AUTODISCOVERSERVICE.svc/root?sipuri=alice@contoso.com";
        assert!(body(&ask(&context, "lyncweb.contoso.com", target)).contains("Redirect"));
    }

    #[test]
    fn office_web_apps_names_its_external_host() {
        let context = context("owas01", SiteKind::OfficeWebApps, true);
        let answer = ask(&context, "wac.contoso.com", "/hosting/discovery");
        assert_eq!(answer.status, 200);
        assert!(body(&answer).contains("<wopi-discovery>"));
        assert!(body(&answer).contains("https://wac.contoso.com/p/"));
        assert_eq!(ask(&context, "wac.contoso.com", "/op/view.aspx").status, 200);
        assert_eq!(ask(&context, "wac.contoso.com", "/meet/").status, 404);
    }

    #[test]
    fn exchange_asks_programs_who_they_are_but_for_its_health() {
        let context = context("exch01", SiteKind::Exchange, true);
        for target in [
            "/EWS/Exchange.asmx",
            "/mapi/emsmdb/?MailboxId=1",
            "/rpc/rpcproxy.dll",
            "/OAB/oab.xml",
            "/Autodiscover/Autodiscover.xml",
            "/Microsoft-Server-ActiveSync?Cmd=Ping",
        ] {
            assert_eq!(ask(&context, "mail.contoso.com", target).status, 401, "{target}");
        }
        assert!(body(&ask(&context, "mail.contoso.com", "/owa/")).contains("Outlook"));
        let health = |target| ask(&context, "mail.contoso.com", target);
        for target in ["/ews/healthcheck.htm", "/microsoft-server-activesync/HealthCheck.htm"] {
            assert_eq!(body(&health(target)), "200 OK<br/>EXCH01.CONTOSO.LOCAL");
        }
        assert_eq!(health("/abs/healthcheck.htm").status, 404);
        context.out_of_service.set(Protocol::Owa, true);
        assert_eq!(health("/owa/healthcheck.htm").status, 503);
        assert_eq!(health("/ews/healthcheck.htm").status, 200);
        assert_eq!(ask(&context, "mail.contoso.com", "/abs/").status, 404);
    }

    #[test]
    fn a_request_without_host_or_above_the_root_is_bad() {
        let context = context("fe01", SiteKind::External, true);
        assert_eq!(ask(&context, "", "/meet/").status, 400);
        assert_eq!(ask(&context, "meet.contoso.com", "/../x").status, 400);
    }
}
