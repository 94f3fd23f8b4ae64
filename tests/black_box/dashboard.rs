//! The dashboard as bytes, and in a real browser; the API beside it.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    pins::GET,
    support::{
        SOON,
        backend::{Backend, always, read_head, reply},
        browser::{Browser, ENTER, TAB},
        client::{Answer, Client},
        frontgate::{Frontgate, LISTENERS},
        servers_of, until,
    },
};

fn get(frontgate: &Frontgate, path: &str) -> Answer {
    Client::plain(frontgate.address("admin")).get("localhost", path)
}

pub fn token(frontgate: &Frontgate) -> String {
    std::fs::read_to_string(frontgate.path().join("state/admin.token")).unwrap().trim().to_owned()
}

/// Two farms with probes often enough to watch.
pub fn config(one: u16, two: u16) -> String {
    let servers = servers_of(&[("fe01", one), ("fe02", two)]);
    let probe = "probe: { path: /up, interval: 200ms, timeout: 1s, rise: 1, fall: 1 }";
    format!(
        "farms:\n  lync: {{ servers: [{servers}], bridge: http, {probe} }}\n  \
         web: {{ servers: [{}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: lync, schemes: [https, http] }}\n  \
         - {{ host: meet.*, path: /admin, deny: true }}\n  \
         - {{ host: old.contoso.com, redirect: \"https://meet.contoso.com/\" }}\n  \
         - {{ host: dialin.*, farm: web, schemes: [https, http], name: \"dial <in> & \\\"more\\\"\" }}\n",
        servers_of(&[("web01", two)]),
    )
}

/// A server that can be unplugged, and counts what it is asked besides probes.
pub struct Plug {
    pub backend: Backend,
    pub up: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Plug {
    pub fn new(name: &'static str) -> Self {
        let (up, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (is_up, count) = (up.clone(), asked.clone());
        let backend = Backend::plain(move |wire, _| {
            while let Some(head) = read_head(wire) {
                if !is_up.load(Ordering::SeqCst) {
                    return;
                }
                if !head.starts_with("GET /up ") {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                if reply(wire, name).is_err() {
                    return;
                }
            }
        });
        Self { backend, up, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn the_page_reads_without_javascript() {
    let (one, two) = (Plug::new("one"), Plug::new("two"));
    let frontgate = Frontgate::start(&config(one.backend.port(), two.backend.port()));
    let page = get(&frontgate, "/");
    assert_eq!(page.status, 200);
    let html = page.text();
    for part in [
        // Name, rule with its place, farm, servers.
        "meet.* <small>https, http</small>",
        "frontgate.yaml:",
        "data-v=\"lync/fe02\"",
        "dial &lt;in&gt; &amp; &quot;more&quot;",
        "redirect 302 to https://meet.contoso.com/",
        "answers 404",
        "stands for: contoso.com",
        // Servers, certificates, reload, events; what to do without a script.
        "<tr data-s=\"web/web01\">",
        "<b class=\"st up\">up</b>",
        "Days left",
        "<b class=\"st up\">applied</b>",
        "(start)",
        "Latest events",
        "<code>frontgate drain FARM/SERVER</code>",
    ] {
        assert!(html.contains(part), "{part}\n{html}");
    }
    assert!(!html.contains("data-verb") && !html.contains(" style=") && !html.contains("onclick"));
    assert_eq!(html.matches("<th scope=\"row\">").count(), 3 + 4 + 1);
    let asked = get(&frontgate, "/?url=https%3A%2F%2Fmeet.contoso.com%2Fanna&from=203.0.113.9");
    let html = asked.text();
    for part in ["It goes to farm lync.", "203.0.113.9", "could be chosen", "<dt>Not rule</dt>"] {
        assert!(html.contains(part), "{part}\n{html}");
    }
    assert!(get(&frontgate, "/?url=ftp%3A%2F%2Fx").text().contains("neither http nor https"));
}

#[test]
fn the_page_is_locked_down() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&config(backend.port(), backend.port()));
    let evil = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let page = get(&frontgate, &format!("/?names={evil}&servers={evil}&url={evil}&from={evil}"));
    let html = page.text();
    assert!(!html.contains("<script>") && html.contains("&lt;script&gt;alert(1)"), "{html}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self';"));
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    // Why a server is out is what somebody typed.
    let body = "{\"server\":\"web/web01\",\"who\":\"<script>\",\"why\":\"<img src=x onerror=a>\"}";
    let ordered = Client::plain(frontgate.address("admin")).ask(format!(
        "POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token(&frontgate),
        body.len()
    ));
    assert_eq!(ordered.status, 200, "{}", ordered.text());
    let html = get(&frontgate, "/").text();
    assert!(html.contains("by &lt;script&gt;: &lt;img src=x onerror=a&gt;"), "{html}");
    assert!(!html.contains("<img") && !html.contains("<script>"));
    // Other paths, methods and hosts find nothing.
    let ask = |method: &str, path: &str, host: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Client::plain(frontgate.address("admin")).ask(request).status
    };
    assert_eq!(ask("GET", "/", "rebound.example"), 421);
    assert_eq!(ask("POST", "/", "localhost"), 405);
    assert_eq!(ask("GET", "/dashboard.js", "localhost"), 404);
    let script = html.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
    let script = get(&frontgate, script);
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(script.header("cache-control").unwrap().contains("immutable"));
}

#[test]
fn ten_thousand_names_and_a_thousand_servers_stay_usable() {
    let mut text = String::from("farms:\n  big: { bridge: http, servers: [");
    for n in 0..1000 {
        write!(text, "{{ name: fe{n:04}, address: 127.0.0.1, ports: {{ http: 9 }} }}, ").unwrap();
    }
    text += "] }\npublish:\n";
    for n in 0..10_000 {
        writeln!(text, "  - {{ host: host{n:05}.contoso.com, farm: big, schemes: [http] }}")
            .unwrap();
    }
    let frontgate = Frontgate::start(&text);
    let begun = Instant::now();
    let page = get(&frontgate, "/");
    let took = begun.elapsed();
    let html = page.text();
    assert_eq!(html.matches("<tr data-s=").count(), 1000);
    assert_eq!(html.matches("<tr><th scope=\"row\">host").count(), 200);
    assert!(html.contains("Page 1 of 50") && html.contains("page=2#names"));
    // Unoptimised, and beside other tests.
    assert!(took < Duration::from_secs(5) && html.len() < 2_000_000, "{took:?} {}", html.len());
    eprintln!("10,000 names and 1,000 servers: {} bytes in {took:?}", html.len());
    let last = get(&frontgate, "/?names=HOST0999&page=99").text();
    assert_eq!(last.matches("<tr><th scope=\"row\">host").count(), 10);
    assert!(last.contains("host09990.contoso.com") && !last.contains("Page 1"));
    let servers = get(&frontgate, "/?servers=big%2Ffe0007").text();
    assert_eq!(servers.matches("<tr data-s=").count(), 1);
    let rest = get(&frontgate, "/?part=rest").text();
    assert!(!rest.contains("<tr data-s=") && rest.len() < 400_000, "{}", rest.len());
    assert_eq!(get(&frontgate, "/api/v1/site").json()["rules"].as_array().unwrap().len(), 10_000);
}

#[test]
fn where_others_reach_it_the_page_asks_for_the_token() {
    let backend = Backend::plain(always("ok"));
    let text = format!("{LISTENERS}{}", config(backend.port(), backend.port())).replace(
        "admin: { listen: 127.0.0.1:0 }",
        "admin: { listen: \"0.0.0.0:0\", token_file: admin.secret }",
    );
    let dir = tempfile::tempdir().unwrap();
    let certificates = crate::support::certificates::Certificates::write(dir.path());
    std::fs::write(dir.path().join("admin.secret"), "a-token-of-the-test\n").unwrap();
    std::fs::write(dir.path().join("frontgate.yaml"), text).unwrap();
    let frontgate = Frontgate::in_dir(dir, certificates);
    let port = frontgate.address("admin").port();
    let ask = |request: String| Client::plain(([127, 0, 0, 1], port).into()).ask(request);
    let page = |more: &str| ask(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"));
    let sign_in = |token: &str, more: &str| {
        let body = format!("token={token}");
        ask(format!(
            "POST /sign-in HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        ))
    };
    let closed = page("");
    assert_eq!(closed.status, 401);
    assert!(closed.text().contains("action=\"/sign-in\"") && !closed.text().contains("fe01"));
    assert_eq!(sign_in("wrong-token-wrong", "").status, 401);
    let foreign = sign_in("a-token-of-the-test", "Origin: http://evil.example\r\n");
    assert_eq!((foreign.status, foreign.header("set-cookie")), (403, None));
    let done = sign_in("a-token-of-the-test", "");
    assert_eq!((done.status, done.header("location")), (303, Some("/")));
    let cookie = done.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("a-token-of-the-test"));
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let open = page(&cookie);
    assert_eq!(open.status, 200);
    assert!(open.text().contains("fe01"));
    // It reads the API, and changes nothing.
    let read = ask(format!("GET /api/v1/servers HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n"));
    assert_eq!(read.status, 200);
    // And follows the events, as a browser asks for them.
    let follow = |more: &str| {
        let mut client = Client::plain(([127, 0, 0, 1], port).into());
        client.send(format!(
            "GET /api/v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\
             Accept: text/event-stream\r\n{more}\r\n"
        ));
        let head = client.take_until("\r\n\r\n");
        (head, client)
    };
    let (head, mut stream) = follow(&cookie);
    assert!(head.contains(" 200 "), "{head}");
    assert!(stream.take_until("\"started\"").contains("data: {"));
    assert!(follow("").0.contains(" 401 "));
    let body = "{\"server\":\"fe01\",\"who\":\"me\"}";
    let drain = ask(format!(
        "POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\n{cookie}Content-Length: {}\r\n\
         Content-Type: application/json\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(drain.status, 401);
}

#[test]
fn the_last_reload_tells_what_changed_and_what_was_wrong() {
    let backend = Backend::plain(always("ok"));
    let text = format!("{LISTENERS}{}", config(backend.port(), backend.port()));
    let frontgate = Frontgate::with(&text);
    let last = || get(&frontgate, "/api/v1/site").json()["reload"].clone();
    let start = last();
    assert_eq!((&start["asked"], &start["result"]), (&"start".into(), &"applied".into()));
    frontgate.rewrite(&text.replace("host: old.contoso.com", "host: older.contoso.com"));
    let applied = until("a reload", SOON, || Some(last()).filter(|it| it["asked"] != "start"));
    assert_eq!(applied["result"], "applied", "{applied}");
    let rules = &applied["changes"][0];
    assert_eq!(
        (&rules["what"], &rules["added"], &rules["removed"]),
        (&"rules".into(), &1.into(), &1.into())
    );
    frontgate.rewrite(&text.replace("farm: web", "farm: wob"));
    let refused = until("a refusal", SOON, || Some(last()).filter(|it| it["result"] == "refused"));
    assert_eq!(refused["findings"]["errors"], 1, "{refused}");
    let html = get(&frontgate, "/").text();
    assert!(html.contains("<b class=\"st down\">refused</b>") && html.contains("^^^"), "{html}");
}

#[test]
fn inventory_tells_farms_pins_and_certificates() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&config(backend.port(), backend.port()));
    let farms = get(&frontgate, "/api/v1/farms").json();
    let lync = &farms["farms"][0];
    assert_eq!((&lync["name"], &lync["servers"][1]), (&"lync".into(), &"fe02".into()));
    assert_eq!(lync["probes"][0], "GET /up every 200ms");
    let certificates = get(&frontgate, "/api/v1/certificates").json();
    let first = &certificates["certificates"][0];
    assert!(first["days_left"].as_i64().unwrap() > 0 && first["default"] == true, "{first}");
    let not_after = first["not_after"].as_str().unwrap();
    let pem = frontgate.path().join("public.pem");
    let openssl = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"])
        .arg(pem)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&openssl.stdout).trim().replace(' ', "T");
    let told = told.strip_prefix("notAfter=").unwrap().trim_end_matches('Z').to_owned();
    assert!(not_after.starts_with(&told), "{not_after} {told}");
    let pins = get(&frontgate, "/api/v1/pins").json();
    assert_eq!((&pins["total"], &pins["limit"]), (&0.into(), &20_000.into()));
}

/// Where pictures for people go.
pub fn pictures() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn order(browser: &Browser, state: &str, server: &str, token: Option<&str>) {
    browser.click(&format!("button[aria-label='{state} {server}']"));
    browser.type_into("#order-why", "patches");
    if let Some(token) = token {
        browser.type_into("#order-who", "jo");
        browser.type_into("#order-token", token);
    }
    browser.click("#order-do");
}

#[test]
fn a_browser_drains_watches_and_explains() {
    let Some(browser) = Browser::start() else { return };
    let (one, two) = (Plug::new("one"), Plug::new("two"));
    let frontgate = Frontgate::start(&config(one.backend.port(), two.backend.port()));
    let origin = format!("http://{}", frontgate.address("admin"));
    let ask = |count: usize| {
        for _ in 0..count {
            assert_eq!(frontgate.plain().ask(GET).status, 200);
        }
    };
    ask(40);
    browser.open(&origin);
    browser.until_text("tr[data-s='lync/fe01']", "up");
    // A wrong token is told, and asked for again.
    order(&browser, "drain", "lync/fe01", Some("0123456789abcdef"));
    browser.until_text("#order-error", "this is not the token");
    browser.type_into("#order-token", &token(&frontgate));
    browser.click("#order-do");
    browser.until_text("#live", "lync/fe01: drain");
    browser.until_text("tr[data-s='lync/fe01'] td", "by jo (dashboard): patches");
    browser.until_text("span[data-v='lync/fe01']", "drain");
    let before = one.asked();
    ask(10);
    assert_eq!(one.asked(), before, "a drained server gets nobody new");
    // The page counts along.
    browser.until_text("tr[data-s='lync/fe02'] td:nth-child(3)", &two.asked().to_string());
    // The token is known now.
    order(&browser, "ready", "lync/fe01", None);
    browser.until_text("tr[data-s='lync/fe01'] td", "up");
    ask(10);
    assert!(one.asked() > before);
    // One goes down by itself, and is seen without a touch.
    two.up.store(false, Ordering::SeqCst);
    browser.until_text("tr[data-s='lync/fe02'] td", "down");
    browser.until_text("#live", "lync/fe02 is down");
    browser.until_text("#events", "lync");
    two.up.store(true, Ordering::SeqCst);
    browser.until_text("tr[data-s='lync/fe02'] td", "up");
    browser.type_into("#f-url", "https://meet.contoso.com/anna");
    browser.press(ENTER);
    browser.until_text("#explained", "It goes to farm lync.");
    browser.type_into("#f-servers", "web");
    let shown = "[...document.querySelectorAll('.servers tbody tr')].filter(r => !r.hidden).length";
    until("one row", SOON, || (browser.eval(shown) == 1).then_some(()));

    let outside: Vec<_> = browser.requested();
    let outside: Vec<_> = outside
        .iter()
        .filter(|url| {
            !url.starts_with(&origin) && !url.starts_with("data:") && !url.starts_with("chrome:")
        })
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
    // A refused order is a failed request, which Chromium notes; nothing else may be there.
    let console = browser.console();
    let faults: Vec<_> = console
        .iter()
        .filter(|it| !it["message"].as_str().unwrap_or_default().contains("status of 401"))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_keyboard_alone_is_enough() {
    let Some(browser) = Browser::start() else { return };
    let (one, two) = (Plug::new("one"), Plug::new("two"));
    let frontgate = Frontgate::start(&config(one.backend.port(), two.backend.port()));
    browser.open(&format!("http://{}", frontgate.address("admin")));
    browser.until_text("tr[data-s='lync/fe01']", "maintenance");
    let focus = "document.activeElement.getAttribute('aria-label')";
    let mut seen = Vec::new();
    while browser.eval(focus) != "maintenance lync/fe01" {
        browser.press(TAB);
        seen.push(browser.eval("document.activeElement.outerHTML"));
        assert!(seen.len() < 60, "{seen:#?}");
        let outline = "getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(browser.eval(outline), "solid", "{:?}", seen.last());
    }
    assert!(seen[0].as_str().unwrap().contains("class=\"skip\""), "{:?}", seen[0]);
    browser.press(ENTER);
    // The dialog has the focus: why, who, token.
    browser.press(&format!("disks{TAB}jo{TAB}{}{ENTER}", token(&frontgate)));
    browser.until_text("tr[data-s='lync/fe01'] td", "by jo (dashboard): disks");
    until("focus is back", SOON, || (browser.eval(focus) == "maintenance lync/fe01").then_some(()));
    let state = Client::plain(frontgate.address("admin")).get("localhost", "/api/v1/servers");
    assert_eq!(state.json()["servers"][0]["state"], "maintenance");
}

/// Tables have captions and headers, fields have labels, and the page fits a phone.
#[test]
fn the_page_fits_a_phone_and_a_screen_reader() {
    let Some(browser) = Browser::start() else { return };
    let (one, two) = (Plug::new("one"), Plug::new("two"));
    let text = format!("{LISTENERS}{}", config(one.backend.port(), two.backend.port()));
    let frontgate = Frontgate::with(&text);
    let origin = format!("http://{}", frontgate.address("admin"));
    browser.size(360, 740);
    browser.open(&format!("{origin}/?url=https%3A%2F%2Fmeet.contoso.com%2Fadmin"));
    browser.until_text("tr[data-s='lync/fe01']", "maintenance");
    // A refused reload shows source lines, which are long.
    frontgate.rewrite(&text.replace("farm: web", "farm: wob"));
    browser.until_text("#reload", "refused");
    let scrolls = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(browser.eval(scrolls), false);
    let wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.skip, thead, pre, svg') \
                && e.getBoundingClientRect().right > 360.5).map(e => e.outerHTML.slice(0, 120))";
    assert_eq!(browser.eval(wide), Value::Array(Vec::new()));
    std::fs::write(pictures().join("phone.png"), browser.screenshot()).unwrap();
    for (what, expression) in [
        ("captions", "[...document.querySelectorAll('table')].filter(t => !t.caption).length"),
        ("scopes", "document.querySelectorAll('th:not([scope])').length"),
        ("labels", "[...document.querySelectorAll('input')].filter(i => !i.labels.length).length"),
        (
            "ids",
            "[...document.querySelectorAll('[id]')].length - new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size",
        ),
        ("styles", "document.querySelectorAll('[style], style, script:not([src])').length"),
    ] {
        assert_eq!(browser.eval(expression), 0, "{what}");
    }
    let tree = browser.devtools("Accessibility.getFullAXTree", serde_json::json!({}));
    let nodes = tree["nodes"].as_array().unwrap();
    let named = |role: &str| -> Vec<&str> {
        let nodes = nodes.iter().filter(|node| node["role"]["value"] == role);
        nodes.filter_map(|node| node["name"]["value"].as_str()).collect()
    };
    assert!(named("table").contains(&"Every server of every farm"), "{:?}", named("table"));
    assert!(named("button").contains(&"drain lync/fe01"), "{:?}", named("button"));
    assert!(nodes.iter().any(|node| node["role"]["value"] == "status"));
}

/// Pictures of the lab for a person to look at; one of them stands in the README.
#[test]
fn pictures_light_and_dark() {
    let Some(browser) = Browser::start() else { return };
    let lab = crate::support::lab::Lab::start();
    for _ in 0..20 {
        assert!(lab.curl("https", "meet.contoso.com", "/").output().unwrap().status.success());
    }
    let origin = format!("http://{}", lab.address("/frontgate/admin"));
    // At no width does a table stick out of its part of the page.
    browser.open(&origin);
    browser.until_text(".servers tbody tr .do", "maintenance");
    let wide = "[...document.querySelectorAll('main table')].filter(t => t.getBoundingClientRect().right > \
                t.parentElement.getBoundingClientRect().right - 8).map(t => t.className)";
    for width in [320, 768, 1201, 1264, 1280, 1440, 1920] {
        browser.size(width, 900);
        assert_eq!(browser.eval(wide), Value::Array(Vec::new()), "{width}");
    }
    browser.size(1280, 900);
    for (scheme, colour) in [("light", "(246, 248, 250)"), ("dark", "(13, 17, 23)")] {
        browser.scheme(scheme);
        browser.open(&format!("{origin}/?url=https%3A%2F%2Fmeet.contoso.com%2F"));
        browser.until_text(".servers tbody tr .do", "maintenance");
        browser.until_text(".servers", " ms");
        let back = browser.eval("getComputedStyle(document.body).backgroundColor");
        assert!(back.as_str().unwrap().contains(colour), "{back}");
        std::fs::write(pictures().join(format!("{scheme}.png")), browser.screenshot()).unwrap();
    }
}
