//! The manifests of `deploy/kubernetes`, checked without a cluster.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    backend::{Backend, always},
    certificates::Certificates,
    frontgate::{Frontgate, run},
    python, servers_of,
};

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes")
}

/// The base, and what is made of it; Debian's kubectl is too old for the latter, which then has to
/// be left out.
fn variants() -> Vec<&'static str> {
    let example = manifests().join("example");
    let tried = Command::new("kubectl").arg("kustomize").arg(example).output();
    let tried = tried.expect("kubectl is missing: scripts/dependencies.sh test installs it");
    let errors = String::from_utf8_lossy(&tried.stderr).into_owned();
    if errors.contains("must be a file") {
        let told = "SKIPPED: deploy/kubernetes/example; this kubectl is older than 1.21\n";
        // Past the harness, which shows what a test prints only if it fails.
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        return vec!["base"];
    }
    vec!["base", "example"]
}

/// What `kubectl apply -k` would send.
fn built(name: &str) -> String {
    built_at(&manifests().join(name))
}

fn built_at(dir: &Path) -> String {
    let built = Command::new("kubectl").arg("kustomize").arg(dir).output();
    let built = built.expect("kubectl is missing: scripts/dependencies.sh test installs it");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    String::from_utf8(built.stdout).unwrap()
}

fn objects(name: &str) -> Vec<Value> {
    parsed(&built(name))
}

fn parsed(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect()
}

fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap()
}

#[test]
fn they_are_what_kubernetes_expects() {
    let python = python::with(&["kubernetes-validate==1.37.0"], "kubernetes_validate");
    for name in variants() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("all.yaml");
        std::fs::write(&file, built(name)).unwrap();
        let check = Command::new(python.with_file_name("kubernetes-validate"))
            .arg("--strict")
            .arg(&file)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
        assert!(check.status.success(), "{told}");
        assert!(told.matches(" passed for resource ").count() >= 9, "{told}");
        // A cluster without the Prometheus operator refuses them.
        assert!(!told.contains("monitoring.coreos.com"), "{told}");
    }
}

/// A copy of `deploy` in which the first commands of the page were run: all but those that talk to
/// a cluster.
fn as_the_page_says() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let page = page();
    let block = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let (told, here): (Vec<&str>, Vec<&str>) = block.lines().partition(|line| {
        line.starts_with("kubectl apply ") || line.starts_with("kubectl -n frontgate ")
    });
    assert!(told.len() == 2 && here.len() == 2, "{block}");
    let root = env!("CARGO_MANIFEST_DIR");
    let script = format!("cp -r {root}/deploy .\n{}", here.join("\n"));
    let done = Command::new("sh").args(["-ec", &script]).current_dir(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stdout), built("example"));
    dir
}

/// What everybody does first; and the component for the Prometheus operator.
#[test]
fn the_commands_of_the_page_make_something_that_can_be_applied() {
    if !variants().contains(&"example") {
        return;
    }
    let dir = as_the_page_says();
    let mine = dir.path().join("deploy/kubernetes/mine");
    let file = mine.join("kustomization.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = "components: [../monitoring]";
    assert!(text.contains(&format!("# {line}")) && page().contains(line), "{text}");
    std::fs::write(&file, text.replace(&format!("# {line}"), line)).unwrap();
    let objects = parsed(&built_at(&mine));
    let monitor = object(&objects, "ServiceMonitor");
    let selected = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let services = objects.iter().filter(|object| {
        let labels = object["metadata"]["labels"].as_object();
        object["kind"] == "Service"
            && selected.iter().all(|(key, value)| labels.is_some_and(|l| l.get(key) == Some(value)))
    });
    let ports: Vec<_> =
        services.map(|service| service["spec"]["ports"][0]["name"].clone()).collect();
    assert_eq!(ports, [monitor["spec"]["endpoints"][0]["port"].clone()]);
    let rules = std::fs::read_to_string(manifests().join("../prometheus/alerts.yaml")).unwrap();
    let rules: Value = serde_yaml::from_str(&rules).unwrap();
    assert_eq!(object(&objects, "PrometheusRule")["spec"], rules);
}

/// The operator's rules are the others with another head; `FRONTGATE_BLESS=1` writes them.
#[test]
fn rules_for_the_operator_are_those_for_everybody() {
    let rules = std::fs::read_to_string(manifests().join("../prometheus/alerts.yaml")).unwrap();
    let mut text =
        "# Made from deploy/prometheus/alerts.yaml by a test (FRONTGATE_BLESS=1); change that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: frontgate
  labels: { app.kubernetes.io/name: frontgate }
spec:
"
        .to_owned();
    for line in rules[rules.find("groups:").unwrap()..].lines() {
        text += &format!("  {line}\n").replace("  \n", "\n");
    }
    let file = manifests().join("monitoring/prometheusrule.yaml");
    if std::env::var_os("FRONTGATE_BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == text,
        "{} is not alerts.yaml any more; FRONTGATE_BLESS=1 writes it",
        file.display()
    );
}

/// What the restricted level asks for.
#[test]
fn pods_have_no_rights() {
    let base = objects("base");
    let pod = &object(&base, "Deployment")["spec"]["template"]["spec"];
    let inside = &pod["containers"][0]["securityContext"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(inside["allowPrivilegeEscalation"], false);
    assert_eq!(inside["readOnlyRootFilesystem"], true);
    assert_eq!(inside["capabilities"]["drop"][0], "ALL");
}

/// With both, each apply would undo what the autoscaler did.
#[test]
fn the_autoscaler_alone_says_how_many_pods_there_are() {
    for name in variants() {
        let objects = objects(name);
        let target = &object(&objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"];
        let deployment = object(&objects, "Deployment");
        assert_eq!(target["kind"], deployment["kind"]);
        assert_eq!(target["name"], deployment["metadata"]["name"]);
        assert!(deployment["spec"]["replicas"].is_null(), "{name}");
    }
}

/// Pods of a rollout among themselves, on nodes that take pods.
#[test]
fn pods_are_on_different_nodes() {
    let base = objects("base");
    let template = &object(&base, "Deployment")["spec"]["template"];
    let spread = template["spec"]["topologySpreadConstraints"].as_array().unwrap();
    let [spread] = &spread[..] else { panic!("{spread:?}") };
    assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(spread["maxSkew"], 1);
    assert_eq!(spread["whenUnsatisfiable"], "DoNotSchedule");
    assert_eq!(spread["matchLabelKeys"][0], "pod-template-hash");
    assert_eq!(spread["nodeTaintsPolicy"], "Honor");
    assert_eq!(spread["labelSelector"]["matchLabels"], template["metadata"]["labels"]);
}

/// A time such as `30m` or `45s`, in seconds.
fn seconds(told: &Value) -> u64 {
    let (number, unit) = told.as_str().unwrap().split_at(told.as_str().unwrap().len() - 1);
    number.parse::<u64>().unwrap() * [("s", 1), ("m", 60)].iter().find(|u| u.0 == unit).unwrap().1
}

/// The words of the hook that runs before SIGTERM.
fn hook(container: &Value) -> Vec<String> {
    let words = container["lifecycle"]["preStop"]["exec"]["command"].as_array().unwrap();
    words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// KEP-1669: with `externalTrafficPolicy: Local` a node passes connections to pods that end only as
/// long as they are ready, and balancers need seconds to notice that a node has no pod. So pods stay
/// ready first, and then have time for polls.
#[test]
fn a_pod_that_ends_is_ready_until_the_balancer_knows_and_then_lets_polls_end() {
    for name in variants() {
        let objects = objects(name);
        let pod = &object(&objects, "Deployment")["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let config = object(&objects, "ConfigMap")["data"]["config.yaml"].as_str().unwrap();
        let config: Value = serde_yaml::from_str(config).unwrap();
        let [delay, drain] = ["delay", "drain"].map(|key| seconds(&config["shutdown"][key]));
        // The longest poll of a Lync client.
        assert!(drain >= 1800);
        let words = hook(container);
        let [ref told @ .., ref period] = words[..] else { panic!("{words:?}") };
        let health = config["health"]["listen"].as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
        assert_eq!(told, ["/usr/local/bin/frontgate", "healthcheck", "--admin", &*health, "--for"]);
        let period = seconds(&Value::from(&**period));
        // Checks of cloud balancers: every ten seconds, three failures.
        assert!(period > 30, "{period}");
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace >= period + delay + drain + 30, "{grace}");
        // A page that is late, or missed once, is no reason to send nobody there.
        let probe = &container["readinessProbe"];
        assert_eq!(
            (probe["failureThreshold"].as_u64(), probe["timeoutSeconds"].as_u64()),
            (Some(3), Some(3))
        );
        let page = page();
        assert!(page.contains(&format!("`frontgate healthcheck --for {period}s`")), "{period}");
        assert!(page.contains(&format!("`shutdown.delay` ({delay} s)")), "{delay}");
        assert!(page.contains(&format!("`terminationGracePeriodSeconds` ({grace})")), "{grace}");
    }
    let base = objects("base");
    assert_eq!(object(&base, "Service")["spec"]["externalTrafficPolicy"], "Local");
}

/// What the hook does, with less patience.
#[test]
fn the_hook_waits_while_the_pod_is_ready() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&format!(
        "farms:\n  a: {{ servers: [{}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: a }}\n",
        servers_of(&[("fe01", backend.port())])
    ));
    let mut words =
        hook(&object(&objects("base"), "Deployment")["spec"]["template"]["spec"]["containers"][0]);
    *words.last_mut().unwrap() = "1500ms".to_owned();
    let place = words.iter().position(|word| word == "--admin").unwrap() + 1;
    words[place] = frontgate.address("admin").to_string();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    let begun = Instant::now();
    let (code, _, errors) = run(&words);
    assert_eq!(code, 0, "{errors}");
    assert!(begun.elapsed() >= Duration::from_millis(1300), "{:?}", begun.elapsed());
}

fn page() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kubernetes.md");
    std::fs::read_to_string(file).unwrap()
}

/// Names of ports, and where the configuration listens, say the same.
#[test]
fn services_and_policies_lead_to_where_frontgate_listens() {
    let base = objects("base");
    let container = &object(&base, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name);
        port.unwrap_or_else(|| panic!("no port {name}"))["containerPort"].as_u64().unwrap()
    };
    let config = object(&base, "ConfigMap")["data"]["config.yaml"].as_str().unwrap().to_owned();
    for (name, key) in [("health", "health"), ("metrics", "metrics")] {
        assert!(config.contains(&format!("{key}: {{ listen: \"0.0.0.0:{}\" }}", port(name))));
    }
    for (name, public) in [("https", 443), ("http", 80)] {
        let line = format!("address: \"0.0.0.0:{}\", public_port: {public}", port(name));
        assert!(config.contains(&line), "{line}");
    }
    for kind in ["Service", "NetworkPolicy"] {
        for object in base.iter().filter(|object| object["kind"] == kind) {
            for named in names_of_ports(&object["spec"]) {
                port(&named);
            }
        }
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "health", "{probe}");
    }
}

fn names_of_ports(spec: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_service = list(&spec["ports"]).into_iter().map(|port| port["targetPort"].clone());
    let of_policy = list(&spec["ingress"]).into_iter().flat_map(|rule| {
        list(&rule["ports"]).into_iter().map(|port| port["port"].clone()).collect::<Vec<_>>()
    });
    of_service.chain(of_policy).filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The configuration that the pods get, with files laid out as they are mounted.
#[test]
fn their_configuration_is_valid() {
    for name in variants() {
        let objects = objects(name);
        let config = object(&objects, "ConfigMap")["data"]["config.yaml"].as_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(dir.path());
        let put = |from: &str, to: &str| {
            let to = dir.path().join("mounted").join(to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(certificates.dir.join(from), to).unwrap();
        };
        put("public.pem", "public/tls.crt");
        put("public.key", "public/tls.key");
        put("internal-ca.pem", "internal/ca.crt");
        let mounted = dir.path().join("mounted").display().to_string();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, config.replace("/etc/frontgate-tls", &mounted)).unwrap();
        let (code, out, errors) = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{out}{errors}");
        assert!(!errors.contains("error["), "{errors}");
    }
}
