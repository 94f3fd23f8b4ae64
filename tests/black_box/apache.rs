//! A real Apache httpd as a server: uploads, chunks, 100-continue, early errors.

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{SOON, client::Client, frontgate::Frontgate, until};

const APACHE: &str = "/usr/sbin/apache2";
const MODULES: &str = "/usr/lib/apache2/modules";

struct Apache {
    child: Child,
    port: u16,
}

impl Apache {
    /// WebDAV at `/dav` (PUT stores, GET gives back); `/small` takes a thousand bytes at most.
    fn start(dir: &Path) -> Self {
        assert!(Path::new(APACHE).exists(), "installed by scripts/dependencies.sh test");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = dir.display();
        for sub in ["www/dav", "www/small"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        // Apache gives up root for this user, who then has to write here.
        let chmod = Command::new("chmod").args(["-R", "a+rwX"]).arg(dir).status().unwrap();
        assert!(chmod.success());
        let modules: String = ["mpm_event", "authz_core", "dav", "dav_fs"]
            .iter()
            .map(|m| format!("LoadModule {m}_module {MODULES}/mod_{m}.so\n"))
            .collect();
        let conf = format!(
            "{modules}ServerName localhost\nListen 127.0.0.1:{port}\nPidFile {path}/httpd.pid\n\
             ErrorLog {path}/error.log\nDocumentRoot {path}/www\nDavLockDB {path}/lock\n\
             User www-data\nGroup www-data\nTimeout 60\nKeepAliveTimeout 60\n\
             <Directory {path}/www>\nRequire all granted\nDav On\n</Directory>\n\
             <Location /small>\nLimitRequestBody 1000\n</Location>\n"
        );
        std::fs::write(dir.join("httpd.conf"), conf).unwrap();
        let child = Command::new(APACHE)
            .args(["-D", "FOREGROUND", "-f"])
            .arg(dir.join("httpd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("apache", SOON, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { child, port }
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // SAFETY: kill(2) on a child we own; TERM lets it stop its own children.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

fn start(apache: &Apache) -> Frontgate {
    Frontgate::start(&format!(
        "farms:\n  a: {{ servers: [{{ name: fe01, address: 127.0.0.1, ports: {{ http: {} }} }}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        apache.port
    ))
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap()
}

#[test]
fn uploads_arrive_whole_with_length_with_chunks_and_after_100_continue() {
    let dir = directory();
    let apache = Apache::start(dir.path());
    let frontgate = start(&apache);
    let body: Vec<u8> = (0..8_000_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes())
        .take(20_000_000)
        .collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&body).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let ways: [(&str, &[&str]); 3] = [
        ("length", &["-H", "Expect:"]),
        ("continue", &["-H", "Expect: 100-continue", "--expect100-timeout", "15"]),
        ("chunks", &["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]),
    ];
    for (name, arguments) in ways {
        let out = frontgate
            .curl("meet.contoso.com", &format!("/dav/{name}"))
            .args(["-T", &path, "-w", "%{http_code}", "-o", "/dev/null"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "201", "{name}");
        let back = frontgate.curl("meet.contoso.com", &format!("/dav/{name}")).output().unwrap();
        assert!(back.stdout == body, "{name}: {} bytes came back", back.stdout.len());
        assert!(std::fs::read(dir.path().join("www/dav").join(name)).unwrap() == body, "{name}");
    }
}

/// COMPAT: some clients write `Chunked`; Apache refuses that letter case from a proxy.
#[test]
fn chunked_with_a_capital_letter_arrives() {
    let dir = directory();
    let apache = Apache::start(dir.path());
    let frontgate = start(&apache);
    let mut client = frontgate.plain();
    let put = "PUT /dav/capital HTTP/1.1\r\nHost: meet.contoso.com\r\nTransfer-Encoding: Chunked\r\n\r\n\
               5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(client.ask(put).status, 201);
    assert_eq!(client.get("meet.contoso.com", "/dav/capital").text(), "hello");
}

#[test]
fn an_early_error_comes_early_and_costs_no_upload() {
    let dir = directory();
    let apache = Apache::start(dir.path());
    let frontgate = start(&apache);
    let begun = Instant::now();
    let mut client = Client::plain(frontgate.address("plain"));
    // A gigabyte is announced, a few bytes are sent; with Expect nothing is.
    for expect in ["", "Expect: 100-continue\r\n"] {
        client.send(format!(
            "PUT /small/x HTTP/1.1\r\nHost: meet.contoso.com\r\n{expect}Content-Length: 1073741824\r\n\r\n"
        ));
        if expect.is_empty() {
            client.send(vec![b'x'; 2000]);
        }
        let answer = client.answer(false);
        assert_eq!(answer.status, 413, "{}", answer.head);
        assert!(answer.text().contains("<html>"), "the server's own words: {}", answer.text());
        client = Client::plain(frontgate.address("plain"));
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let lines: Vec<_> = frontgate.access().into_iter().filter(|l| l["status"] == 413).collect();
    assert!(lines.iter().all(|l| l["server"] == "fe01"), "{lines:#?}");
}
