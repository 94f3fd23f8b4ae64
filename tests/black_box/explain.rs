//! What is explained is what happens; `explain`, `status` and `reload` as commands.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    SOON,
    backend::{Backend, always, field, read_body, read_head, reply},
    frontgate::{Frontgate, LISTENERS, run},
    servers_of, until,
};

fn told(frontgate: &Frontgate, words: &[&str]) -> Value {
    let (code, out, err) = frontgate.command(&[words, &["--json"]].concat());
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// Tells what it was asked.
fn echo() -> Backend {
    Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            if reply(wire, &head).is_err() {
                return;
            }
        }
    })
}

fn config(servers: &[(&str, u16)], farm: &str) -> String {
    format!(
        "{LISTENERS}\nfarms:\n  owa: {{ servers: [{}], bridge: http, deny_paths: [/ecp]{farm} }}\n\
         publish:\n  - {{ host: meet.*, farm: owa }}\n  \
         - {{ host: meet.contoso.com, path: /old, redirect: \"https://new.contoso.com/\" }}\n  \
         - {{ host: meet.contoso.com, farm: owa, path: /small, body_size: 4KiB }}\n  \
         - {{ host: meet.contoso.com, farm: owa, rewrite: {{ path: \"/new/{{R:1}}\" }}, path: /app,\n      \
             request_headers: {{ set: {{ X-Rule: \"{{HTTP_HOST}}\" }} }} }}\n  \
         - {{ host: meet.contoso.com, farm: owa, schemes: [https, http] }}\n",
        servers_of(servers)
    )
}

#[test]
fn what_is_explained_is_what_the_server_gets() {
    let backend = echo();
    let frontgate = Frontgate::with(&config(
        &[("fe01", backend.port())],
        ", forward: { style: arr, rfc7239: true }",
    ));
    let told = told(&frontgate, &["explain", "https://meet.contoso.com/App/a?b=c"]);
    let rule = &told["rule"];
    assert!(rule["place"].as_str().unwrap().contains("frontgate.yaml:"), "{rule}");
    assert_eq!(told["host_pattern"], "meet.contoso.com");
    assert_eq!(told["host_rivals"][0]["pattern"], "meet.*");
    let rivals = told["rivals"].as_array().unwrap();
    assert_eq!(rivals[0]["code"], "shorter_path", "{rivals:?}");
    let toward = &told["toward"];
    let head = frontgate.tls("meet.contoso.com").get("meet.contoso.com", "/App/a?b=c").text();
    let line = format!("GET {} HTTP/1.1", toward["target"].as_str().unwrap());
    assert_eq!(toward["rewritten"], true);
    assert!(head.starts_with(&line), "{line}\n{head}");
    for name in toward["told_headers"].as_array().unwrap() {
        assert!(field(&head, name.as_str().unwrap()).is_some(), "{name} in\n{head}");
    }
    let known = toward["told_headers"].as_array().unwrap();
    let ours = |name: &str| name.starts_with("x-") || name == "forwarded";
    for line in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        let name = line.0.to_ascii_lowercase();
        let is = |told: &&Value| told.as_str().unwrap().eq_ignore_ascii_case(&name);
        assert!(!ours(&name) || name == "x-rule" || known.iter().any(|it| is(&it)), "{name}");
    }
    let change = &toward["request_headers"][0];
    assert_eq!(change["name"], "X-Rule");
    assert_eq!(field(&head, "x-rule"), change["value"].as_str());
    assert_eq!(field(&head, "host"), toward["host"].as_str());
    let server = &toward["servers"][0];
    assert_eq!(server["address"], format!("127.0.0.1:{}", backend.port()));
    assert_eq!((&server["eligible"], &told["live"]["server"]), (&json!(true), &json!("fe01")));
}

#[test]
fn the_verdict_is_the_answer() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], ", connection_auth: off"));
    let plain = frontgate.address("plain").port();
    let mut tls = frontgate.tls("meet.contoso.com");
    for path in ["/", "/ecp", "/old/x?y", "/%65cp", "/app/ecp", "/appl", "/a//b", "/x/..%2fecp"] {
        let answer = tls.get("meet.contoso.com", path);
        let told = told(&frontgate, &["explain", &format!("https://meet.contoso.com{path}")]);
        let verdict = &told["verdict"];
        match verdict["status"].as_u64() {
            None => assert_eq!(answer.text(), "ok", "{path}: {verdict}"),
            Some(status) => {
                assert_eq!(u64::from(answer.status), status, "{path}: {verdict}");
                assert_eq!(answer.header("location"), verdict["location"].as_str(), "{path}");
            }
        }
        if answer.status == 400 || answer.status == 404 {
            assert_eq!(verdict["reason"], answer.reason(), "{path}");
        }
    }
    let negotiate =
        "GET / HTTP/1.1\r\nHost: meet.contoso.com\r\nAuthorization: Negotiate eA==\r\n\r\n";
    let answer = tls.ask(negotiate);
    let url = "https://meet.contoso.com/";
    let words = ["explain", url, "--header", "Authorization: Negotiate eA=="];
    assert_eq!(told(&frontgate, &words)["verdict"]["reason"], answer.reason());
    for (length, outcome) in [("4096", "forward"), ("4097", "refused")] {
        let words = ["explain", "https://meet.contoso.com/small", "-X", "POST", "--header"];
        let length = format!("Content-Length: {length}");
        let verdict = told(&frontgate, &[&words[..], &[&length]].concat())["verdict"].clone();
        assert_eq!(verdict["outcome"], outcome, "{length}: {verdict}");
        if outcome == "refused" {
            let answer = frontgate
                .tls("meet.contoso.com")
                .ask(format!("POST /small HTTP/1.1\r\nHost: meet.contoso.com\r\n{length}\r\n\r\n"));
            assert_eq!((&verdict["status"], answer.status), (&json!(413), 413));
            assert_eq!(verdict["reason"], answer.reason());
        }
    }
    // Plain http to what only https has.
    let answer = frontgate.plain().get("meet.contoso.com", "/old");
    let told = told(&frontgate, &["explain", &format!("http://meet.contoso.com:{plain}/old")]);
    assert_eq!(told["verdict"]["location"].as_str(), answer.header("location"));
    assert_eq!((answer.status, &told["listener"]), (301, &json!("plain")));
}

#[test]
fn servers_that_cannot_be_chosen_have_their_reason() {
    let (one, two) = (Backend::plain(always("one")), Backend::plain(always("two")));
    let servers = [("fe01", one.port()), ("fe02", two.port())];
    let frontgate = Frontgate::with(&config(&servers, ", balance: { hash: source }"));
    let url = "https://meet.contoso.com/";
    let foreseen = told(&frontgate, &["explain", url, "--from", "127.0.0.1"]);
    let server = foreseen["live"]["server"].as_str().unwrap().to_owned();
    let answer = frontgate.tls("meet.contoso.com").get("meet.contoso.com", "/").text();
    assert_eq!(answer, if server == "fe01" { "one" } else { "two" });
    let (code, _, err) = frontgate.command(&["drain", &server, "--why", "patches"]);
    assert_eq!(code, 0, "{err}");
    let (code, text, _) = frontgate.command(&["explain", url]);
    assert_eq!(code, 0);
    assert!(text.contains("drained by jo@") && text.contains(": patches"), "{text}");
    assert!(text.contains("told by   the running Frontgate at "), "{text}");
    assert!(text.contains("rule      meet.contoso.com ("), "{text}");
}

#[test]
fn without_a_running_frontgate_the_configuration_is_explained() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], ""));
    let file = frontgate.config_path();
    let file = file.to_str().unwrap().to_owned();
    let words = |more: &[&str]| {
        let place = ["--config", &file, "--admin", "unix:/nowhere/at/all"];
        run(&[&["explain"], more, &place].concat())
    };
    let (code, out, err) = words(&["meet.contoso.com/app"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("alone: nobody listens on unix:/nowhere/at/all"), "{out}");
    assert!(out.contains("only a running Frontgate knows") && out.contains("fe01"), "{out}");
    let (code, out, _) = words(&["https://nobody.contoso.com/", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["verdict"]["outcome"]), (0, &json!("host_not_published")));
    assert_eq!(told["live"], Value::Null);
    assert_eq!(words(&["ftp://meet.contoso.com/"]).0, 2);
    assert_eq!(words(&["meet.contoso.com", "--header", "nonsense"]).0, 2);
    frontgate.rewrite("listeners: 7\n");
    assert_eq!(words(&["meet.contoso.com", "--offline"]).0, 78);
}

#[test]
fn status_tells_every_server_and_its_exit_code_whether_farms_serve() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], ""));
    frontgate.tls("meet.contoso.com").get("meet.contoso.com", "/");
    let (code, out, err) = frontgate.command(&["status"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("FARM  SERVER  STATE  HEALTH"), "{out}");
    assert!(out.contains("owa   fe01    ready  up ") && out.contains("1 of 1 servers"), "{out}");
    frontgate.command(&["drain", "fe01"]);
    let (code, out, _) = frontgate.command(&["status", "--json"]);
    let rows: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &rows[0]["without_servers"]), (1, &json!(["owa"])));
    assert_eq!(rows[0]["servers"][0]["requests"], 1);
    let (code, out, _) = frontgate.command(&["status"]);
    assert!(code == 1 && out.contains("farm owa: NO server takes new clients"), "{out}");
    assert_eq!(run(&["status", "--admin", "unix:/nowhere"]).0, 1);
}

#[test]
fn status_watches_until_it_is_interrupted() {
    use std::io::{BufRead, BufReader};
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], ""));
    let mut child = Command::new(env!("CARGO_BIN_EXE_frontgate"))
        .args(["status", "--watch", "--config"])
        .arg(frontgate.config_path())
        .args(["--admin", &frontgate.address("admin").to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // The second one proves that it looks again.
    assert_eq!(lines.filter(|line| line.starts_with("FARM ")).take(2).count(), 2);
    // SAFETY: kill(2) on a child we own and have not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let code = until("the end of watching", SOON, || child.try_wait().unwrap()).code();
    assert_eq!(code, Some(0));
}

#[test]
fn reload_waits_and_tells_what_came_of_it() {
    let backend = Backend::plain(always("ok"));
    let text = config(&[("fe01", backend.port())], "");
    let frontgate = Frontgate::with(&text);
    let (code, out, err) = frontgate.command(&["reload"]);
    assert_eq!((code, out.as_str()), (0, "nothing has changed\n"), "{err}");
    frontgate.log_line("asked by jo@");

    let broken = text.replace("bridge: http,", "bridge: http, bogus: 1,");
    frontgate.rewrite(&broken);
    let (code, out, err) = frontgate.command(&["reload", "--why", "a test"]);
    assert_eq!((code, out.as_str()), (78, ""), "{err}");
    assert!(
        err.contains("error[E") && err.contains("frontgate.yaml:") && err.contains('^'),
        "{err}"
    );
    assert!(err.contains("the old configuration goes on serving"), "{err}");
    let (code, out, _) = frontgate.command(&["reload", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told[0]["result"]), (78, &json!("refused")));
    assert_eq!(told[0]["findings"]["errors"], 1);
    assert_eq!(frontgate.tls("meet.contoso.com").get("meet.contoso.com", "/").text(), "ok");

    // Whoever is first, the watched file or the command: in the end the new rule serves.
    frontgate
        .rewrite(&text.replace("/old", "/older").replace("state_dir", "workers: 1\nstate_dir"));
    let (code, out, err) = frontgate.command(&["reload"]);
    assert_eq!(code, 0, "{err}");
    assert!(matches!(out.as_str(), "reloaded\n" | "nothing has changed\n"), "{out}");
    let verdict = &told_verdict(&frontgate, "https://meet.contoso.com/older");
    assert_eq!(verdict["outcome"], "redirect");
}

fn told_verdict(frontgate: &Frontgate, url: &str) -> Value {
    told(frontgate, &["explain", url])["verdict"].clone()
}

#[test]
fn a_reload_needs_the_token_and_may_move_the_admin_side_itself() {
    let backend = Backend::plain(always("ok"));
    let text = config(&[("fe01", backend.port())], "");
    let frontgate = Frontgate::with(&text);
    let admin = frontgate.address("admin");
    let mut client = crate::support::client::Client::plain(admin);
    let answer = client.ask(
        "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 12\r\n\r\n{\"who\":\"jo\"}",
    );
    assert_eq!(answer.status, 401);
    assert_eq!(frontgate.log_count("asked by"), 0);
    // The connection that asks outlives the listener that took it.
    frontgate.rewrite(&text.replace("127.0.0.1:0 }\naccess", "127.0.0.3:0 }\naccess"));
    let file = frontgate.config_path();
    let at = admin.to_string();
    let token = frontgate.path().join("state/admin.token");
    let words = ["reload", "--config", file.to_str().unwrap(), "--admin", &at, "--token-file"];
    let (code, out, err) = run(&[&words[..], &[token.to_str().unwrap()]].concat());
    assert!(code == 0 || err.contains("nobody listens"), "{out}{err}");
    frontgate.log_line("admin: http on 127.0.0.3:");
}

/// Variables carry secrets: what a rule sets or wants by them is not told.
#[test]
fn what_the_environment_says_is_not_explained() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("frontgate.yaml");
    std::fs::write(
        &file,
        "listeners: [{ address: \"127.0.0.1:80\" }]\n\
         farms: { a: { servers: [127.0.0.1], bridge: http } }\n\
         publish:\n\
         - { host: a.contoso.com, farm: a, schemes: [http], when: [{ header: X-Verify, is: \"${WANTED}\" }],\n    \
             request_headers: { set: { X-Key: \"${GIVEN}\", X-Open: plain } } }\n\
         - { host: a.contoso.com, deny: true, schemes: [http] }\n",
    )
    .unwrap();
    let explained = |header: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_frontgate"))
            .args(["explain", "http://a.contoso.com/", "--offline", "--json", "--header", header])
            .arg("--config")
            .arg(&file)
            .env("WANTED", "open-sesame")
            .env("GIVEN", "s3cr3t")
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let lets_in = explained("X-Verify: open-sesame");
    assert!(lets_in.contains("${GIVEN}") && lets_in.contains("plain"), "{lets_in}");
    let denied = explained("X-Verify: wrong");
    assert!(denied.contains("header x-verify is what the rule says"), "{denied}");
    for text in [lets_in.replace("X-Verify: open-sesame", ""), denied] {
        assert!(!text.contains("s3cr3t") && !text.contains("open-sesame"), "{text}");
    }
}
