//! The dashboard in a real browser, while things change: by the stream of events, without it, and
//! while Frontgate is away.

use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::{
    dashboard::{Plug, config, pictures, token},
    support::{
        SOON, browser::Browser, client::Client, frontgate::Frontgate, frontgate::LISTENERS,
        relay::Relay, until,
    },
};

/// What stands in the console but for loads that failed with one of these.
fn faults(browser: &Browser, but: &[&str]) -> Vec<Value> {
    let expected = |it: &Value| {
        let message = it["message"].as_str().unwrap_or_default();
        but.iter().any(|but| message.contains(but))
    };
    browser.console().into_iter().filter(|it| !expected(it)).collect()
}

/// The page cannot ask by itself any more, so what it shows came with an event.
#[test]
fn a_change_shows_because_it_happened() {
    let Some(browser) = Browser::start() else { return };
    let (one, two) = (Plug::new("one"), Plug::new("two"));
    let text = format!("{LISTENERS}{}", config(one.backend.port(), two.backend.port()));
    let frontgate = Frontgate::with(&text);
    browser.before_scripts(
        "const later = setTimeout; window.setTimeout = (f, ms) => ms < 1500 ? later(f, ms) : 0;",
    );
    browser.open(&format!("http://{}", frontgate.address("admin")));
    browser.until_text("#how", "Live");
    two.up.store(false, Ordering::SeqCst);
    browser.until_text("tr[data-s='lync/fe02'] td", "down");
    browser.until_text("span[data-v='lync/fe02']", "down");
    browser.until_text("#events li", "server_down");
    browser.until_text("#live", "lync/fe02 is down");
    two.up.store(true, Ordering::SeqCst);
    browser.until_text("tr[data-s='lync/fe02'] td", "up");
    browser.until_text("#events li", "server_up");
    // What somebody else orders, and what a reload brings.
    let (code, _, told) = frontgate.command(&["drain", "lync/fe01", "--why", "patches"]);
    assert_eq!(code, 0, "{told}");
    browser.until_text("tr[data-s='lync/fe01'] td", "patches");
    frontgate.rewrite(&text.replace("host: dialin.*", "host: news.*"));
    browser.until_text("#names", "news.*");
    browser.until_text("#reload", "1 changed");
    assert_eq!(browser.text("#how"), "Live: changes show at once.");
    let twice = "[...document.querySelectorAll('.events li')].map(li => li.textContent)";
    let shown = browser.eval(twice);
    let shown = shown.as_array().unwrap();
    assert!(shown.iter().all(|it| shown.iter().filter(|other| it == *other).count() == 1));
    assert_eq!(faults(&browser, &[]), Vec::<Value>::new());
}

#[test]
fn where_the_stream_is_refused_the_page_asks_by_itself() {
    let Some(browser) = Browser::start() else { return };
    let (one, two) = (Plug::new("one"), Plug::new("two"));
    let frontgate = Frontgate::start(&config(one.backend.port(), two.backend.port()));
    // Others have every place.
    let streams: Vec<_> = (0..64)
        .map(|_| {
            let mut client = Client::plain(frontgate.address("admin"));
            client.send("GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert!(client.take_until("\r\n\r\n").contains(" 200 "));
            client
        })
        .collect();
    browser.open(&format!("http://{}", frontgate.address("admin")));
    let refused = |it: &Value| it["message"].as_str().unwrap_or_default().contains("of 503");
    until("a refusal", SOON, || browser.console().iter().any(refused).then_some(()));
    two.up.store(false, Ordering::SeqCst);
    browser.until_text("tr[data-s='lync/fe02'] td", "down");
    browser.until_text("#events li", "server_down");
    assert_eq!(browser.text("#how"), "Asks every two seconds.");
    assert_eq!(browser.text("#lost"), "");
    assert_eq!(faults(&browser, &["of 503"]), Vec::<Value>::new());
    drop(streams);
}

#[test]
fn a_lost_connection_is_told_and_found_again() {
    let Some(browser) = Browser::start() else { return };
    let (one, two) = (Plug::new("one"), Plug::new("two"));
    let text = config(one.backend.port(), two.backend.port());
    let frontgate = Frontgate::start(&text);
    let relay = Relay::to(frontgate.address("admin"));
    browser.open(&format!("http://{}", relay.address));
    browser.until_text("#how", "Live");
    browser.until_text("tr[data-s='lync/fe01'] td", "up");
    assert_eq!(browser.text("#lost"), "");
    assert_eq!(faults(&browser, &[]), Vec::<Value>::new());
    relay.lead(None);
    drop(frontgate);
    browser.until_text("#lost", "Connection lost since ");
    // What it said last can still be read.
    std::fs::write(pictures().join("lost.png"), browser.screenshot()).unwrap();
    assert!(browser.text("tr[data-s='lync/fe01'] td").contains("up"));
    // Another one comes in its place, with another site.
    let other =
        Frontgate::start(&text.replace("fe01", "fe07").replace("host: dialin.*", "host: news.*"));
    relay.lead(Some(other.address("admin")));
    browser.until_text("tr[data-s='lync/fe07'] td", "up");
    browser.until_text("#names", "news.*");
    browser.until_text("#how", "Live");
    until("all is well", SOON, || browser.text("#lost").is_empty().then_some(()));
    let there = browser.eval("document.querySelectorAll(\"tr[data-s='lync/fe01']\").length");
    assert_eq!(there, 0);
    // The order is for the new one.
    browser.click("button[aria-label='drain lync/fe07']");
    browser.type_into("#order-who", "jo");
    browser.type_into("#order-token", &token(&other));
    browser.click("#order-do");
    browser.until_text("tr[data-s='lync/fe07'] td", "drain");
    assert_eq!(faults(&browser, &["net::ERR_"]), Vec::<Value>::new());
}

#[test]
fn a_page_that_nobody_looks_at_asks_nothing() {
    let Some(browser) = Browser::start() else { return };
    let (one, two) = (Plug::new("one"), Plug::new("two"));
    let frontgate = Frontgate::start(&config(one.backend.port(), two.backend.port()));
    // Whether a tab is hidden is the browser's to say; here the test says it.
    browser.before_scripts(
        "window.away = false; \
         Object.defineProperty(document, 'hidden', { get: () => window.away }); \
         window.asked = 0; const ask = fetch; \
         window.fetch = (...what) => { window.asked += 1; return ask(...what); };",
    );
    let leave = |away: bool| {
        let script = "document.dispatchEvent(new Event('visibilitychange'))";
        browser.eval(&format!("((window.away = {away}), {script})"));
    };
    browser.open(&format!("http://{}", frontgate.address("admin")));
    browser.until_text("#how", "Live");
    let asked = || browser.eval("window.asked").as_u64().unwrap();
    until("it asks", SOON, || (asked() > 2).then_some(()));
    leave(true);
    assert_eq!(browser.text("#how"), "Asks every two seconds.");
    two.up.store(false, Ordering::SeqCst);
    let list = || {
        let told = Client::plain(frontgate.address("admin")).get("localhost", "/api/v1/servers");
        told.json()["servers"][1]["status"] == "down"
    };
    until("it is down", SOON, || list().then_some(()));
    // One answer may have been under way.
    let before = asked();
    std::thread::sleep(std::time::Duration::from_millis(4500));
    assert_eq!(asked(), before);
    leave(false);
    browser.until_text("tr[data-s='lync/fe02'] td", "down");
    browser.until_text("#how", "Live");
}
