//! The Helm chart: its form, what it makes of values, and that the program understands that.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::chart_values::{chart, files, named, only, pod, render, template, template_of, texts};
use crate::tools::{dist, find, ok, run, text};

const PROGRAM: &str = env!("CARGO_BIN_EXE_infisical");
/// What the token's file is called in a pod.
const TOKEN_FILE: &str = "/run/secrets/infisical/enrollment-token";
/// What the file of a private CA is called in a pod.
const CA_FILE: &str = "/etc/infisical-ca/ca.crt";
/// Versions whose schemas are asked: the oldest that the chart supports, and the newest known.
const SCHEMAS: [&str; 2] = ["1.28", "1.37"];

#[test]
fn chart_is_in_good_form() {
    let Some(helm) = find("helm") else { return };
    for values in files() {
        let mut lint = Command::new(&helm);
        lint.args(["lint", "--strict", "--values"]).arg(values);
        ok(lint.arg(chart()));
    }
}

#[test]
fn objects_match_the_schemas_of_kubernetes() {
    let (Some(helm), Some(validate)) = (find("helm"), find("kubernetes-validate")) else {
        return;
    };
    for values in files() {
        let text = ok(&mut template(
            &helm,
            &["--values", values.to_str().expect("text")],
        ));
        let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
        std::fs::write(file.path(), text).expect("written");
        for version in SCHEMAS {
            let mut command = Command::new(&validate);
            command.args(["--strict", "--kubernetes-version", version]);
            ok(command.arg(file.path()));
        }
    }
}

#[test]
fn released_chart_is_that_of_the_source() {
    let name = format!("infisical-gateway-chart-{}.tgz", env!("CARGO_PKG_VERSION"));
    let archive = dist().join(name);
    if !archive.is_file() {
        eprintln!("SKIPPED: {archive:?} is made by make dist");
        return;
    }
    let Some(helm) = find("helm") else { return };
    let values = named("pool");
    let words = ["--values", values.to_str().expect("text")];
    let source = ok(&mut template_of(&helm, &chart(), &words));
    assert_eq!(ok(&mut template_of(&helm, &archive, &words)), source);
}

#[test]
fn contradicting_values_are_refused_with_reasons() {
    let Some(helm) = find("helm") else { return };
    let token = "gateway.name=a,gateway.domain=https://a,gateway.enrollment.method=token";
    let with = |more: &str| format!("{token},{more}");
    for (values, reason) in [
        (
            "gateway.enrollment.method=token".to_owned(),
            "gateway.name is required",
        ),
        (token.to_owned(), "existingSecretRef or .value is required"),
        (
            with("gateway.enrollment.token.value=t,persistence.enabled=false"),
            "persistence.enabled must be true",
        ),
        (
            with("gateway.enrollment.token.value=t,replicaCount=2"),
            "several replicas need several tokens",
        ),
        (
            "gateway.name=a,gateway.domain=https://a,gateway.enrollment.method=aws".to_owned(),
            "gateway.enrollment.aws.gatewayId is required",
        ),
        (
            "replicaCount=2".to_owned(),
            "an identity is one gateway; install the chart once for each",
        ),
        (
            "gateway.enrolment.method=token".to_owned(),
            "additional properties 'enrolment' not allowed",
        ),
        ("gateway.domain=a.example".to_owned(), "does not match"),
        (
            "gateway.name=a,gateway.domain=https://a,gateway.enrollment.method=kubernetes,\
             gateway.enrollment.kubernetes.gatewayId=i,serviceAccount.automount=false"
                .to_owned(),
            "needs the service account's token",
        ),
    ] {
        let output = run(&mut template(&helm, &["--set", &values]));
        let (_, said) = text(&output);
        assert!(!output.status.success(), "{values}");
        assert!(said.contains(reason), "{values}: {said}");
    }
}

/// `gateway check` takes the arguments of `gateway start`, and tries nothing.
#[test]
fn program_understands_the_pods_arguments() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "example-enrollment-token\n").expect("written");
    // That of this machine is none of the pod's.
    let config = directory.path().join("gateway.conf");
    infisical_test_support::write_private(&config, "");
    for values in files() {
        let Some(objects) = render(&values) else {
            return;
        };
        let (_, container) = pod(&objects);
        let arguments = texts(&container["args"]);
        assert_eq!(&arguments[..2], ["gateway", "start"], "{values:?}");
        let mut check = Command::new(PROGRAM);
        check.env_clear().args(["gateway", "check"]);
        for argument in &arguments[2..] {
            // As the kubelet does.
            let argument = argument.replace("$(GATEWAY_ORDINAL)", "1");
            check.arg(match argument.split_once('=') {
                Some((flag, path)) if path.starts_with(TOKEN_FILE) => {
                    format!("{flag}={}", token.display())
                }
                Some((flag, CA_FILE)) => format!("{flag}={}", authority(directory.path())),
                _ => argument,
            });
        }
        for variable in container["env"].as_array().expect("a list") {
            if let Some(value) = variable["value"].as_str() {
                check.env(variable["name"].as_str().expect("text"), value);
            }
        }
        check.env("HOME", directory.path());
        check.arg("--config").arg(&config);
        if arguments.len() == 2 {
            // What a Secret of the deployed chart holds.
            check.env("INFISICAL_GATEWAY_NAME", "office");
            check.env("INFISICAL_AUTH_METHOD", "universal-auth");
            check.env("INFISICAL_UNIVERSAL_AUTH_CLIENT_ID", "i");
            check.env("INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET", "s");
        }
        let said = ok(&mut check);
        assert!(
            said.contains("No connection was made"),
            "{values:?}: {said}"
        );
        assert!(!said.contains("has no effect"), "{values:?}: {said}");
    }
}

/// A certificate in a file, which the program reads when it checks.
fn authority(directory: &Path) -> String {
    let path = directory.join("ca.crt");
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(vec!["ca".to_owned()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    std::fs::write(&path, certificate.pem()).expect("written");
    path.to_str().expect("text").to_owned()
}

#[test]
fn token_is_in_no_argument_or_variable() {
    let Some(objects) = render(&named("deployed-token")) else {
        return;
    };
    let stateful_set = only(&objects, "StatefulSet").to_string();
    assert!(!stateful_set.contains("example-enrollment-token"));
    let data = &only(&objects, "Secret")["data"]["enrollment-token"];
    assert_eq!(data, "ZXhhbXBsZS1lbnJvbGxtZW50LXRva2Vu");
    let (_, container) = pod(&objects);
    assert!(!container["env"].to_string().contains("secretKeyRef"));
    // The existing Secret of a pool is not the chart's.
    let pool = render(&named("pool")).expect("the tools are there");
    assert!(!pool.keys().any(|name| name.starts_with("Secret/")));
}

#[test]
fn pods_have_no_right_they_need_not() {
    for values in files() {
        let Some(objects) = render(&values) else {
            return;
        };
        let (pod, container) = pod(&objects);
        let user = &pod["securityContext"];
        assert_eq!(user["runAsNonRoot"], true, "{values:?}");
        assert_eq!(user["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(user["fsGroupChangePolicy"], "OnRootMismatch");
        let rights = &container["securityContext"];
        assert_eq!(rights["allowPrivilegeEscalation"], false, "{values:?}");
        assert_eq!(rights["readOnlyRootFilesystem"], true);
        assert_eq!(rights["capabilities"], json!({"drop": ["ALL"]}));
        assert!(pod["hostNetwork"].is_null() && rights["privileged"].is_null());
        // A stop takes that long at most.
        assert_eq!(pod["terminationGracePeriodSeconds"], 40);
        let probe = texts(&container["readinessProbe"]["exec"]["command"]);
        assert_eq!(probe, ["/usr/bin/infisical", "gateway", "healthcheck"]);
        let volumes = container["volumeMounts"].as_array().expect("a list");
        let places: Vec<_> = volumes.iter().map(|volume| &volume["mountPath"]).collect();
        for place in ["/home/infisical", "/var/lib/infisical", "/tmp"] {
            assert!(places.contains(&&json!(place)), "{values:?}: {place}");
        }
    }
}

/// What the deployed chart's users wrote holds.
#[test]
fn deployed_values_mean_the_same() {
    let Some(objects) = render(&named("deployed-token")) else {
        return;
    };
    let (pod, container) = pod(&objects);
    assert_eq!(pod["securityContext"]["fsGroup"], 1000);
    assert_eq!(container["securityContext"]["runAsUser"], 1000);
    assert_eq!(container["resources"]["limits"]["memory"], "128Mi");
    let arguments = texts(&container["args"]);
    assert_eq!(
        arguments[2..],
        [
            "office",
            "--enroll-method=token",
            "--domain=https://app.infisical.com",
            "--token-file=/run/secrets/infisical/enrollment-token",
            "--target-relay-name=eu-1",
        ]
    );
    let claims = &only(&objects, "StatefulSet")["spec"]["volumeClaimTemplates"];
    assert_eq!(claims[0]["spec"]["resources"]["requests"]["storage"], "5Gi");
    let identity = render(&named("deployed-identity")).expect("the tools are there");
    let container = self::pod(&identity).1;
    assert_eq!(
        container["envFrom"],
        json!([{"secretRef": {"name": "infisical-gateway-environment"}}])
    );
    assert_eq!(
        container["image"],
        "registry.example.com/infisical-gateway:1.2.3"
    );
}

#[test]
fn each_gateway_of_a_pool_is_itself() {
    let Some(objects) = render(&named("pool")) else {
        return;
    };
    let spec = &only(&objects, "StatefulSet")["spec"];
    assert_eq!(spec["replicas"], 3);
    // An update that changed one of these labels would be refused.
    let labels = &spec["volumeClaimTemplates"][0]["metadata"]["labels"];
    assert_eq!(labels, &spec["selector"]["matchLabels"]);
    let (pod, container) = pod(&objects);
    let arguments = texts(&container["args"]);
    assert_eq!(arguments[2], "Office of Paris-$(GATEWAY_ORDINAL)");
    let file = format!("--token-file={TOKEN_FILE}-$(GATEWAY_ORDINAL)");
    assert!(arguments.contains(&file.as_str()), "{arguments:?}");
    let volumes = pod["volumes"].as_array().expect("a list");
    let token = volumes
        .iter()
        .find(|volume| volume["name"] == "enrollment-token")
        .expect("a volume");
    assert_eq!(
        token["secret"]["items"][2],
        json!({"key": "enrollment-token-2", "path": "enrollment-token-2"})
    );
    let budget = &only(&objects, "PodDisruptionBudget")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(
        budget["selector"]["matchLabels"],
        spec["selector"]["matchLabels"]
    );
}

#[test]
fn network_policy_allows_what_a_gateway_needs() {
    for (name, domain) in [
        ("pool", "https://infisical.example.com:8443"),
        ("kubernetes", "http://infisical.infisical.svc.cluster.local"),
        ("aws", "https://eu.infisical.com"),
    ] {
        let Some(objects) = render(&named(name)) else {
            return;
        };
        let mut egress = Command::new(PROGRAM);
        egress.env_clear().args(["gateway", "egress", "office"]);
        let needed = ok(egress.args(["--json", "--domain", domain]));
        let needed: Value = serde_json::from_str(&needed).expect("JSON");
        let needed = needed["egress"].as_array().expect("a list");
        let needed = needed.iter().filter(|rule| rule["from"] == "gateway");
        let needed: BTreeSet<u64> = needed.filter_map(|rule| rule["port"].as_u64()).collect();
        let rules = only(&objects, "NetworkPolicy")["spec"]["egress"]
            .as_array()
            .expect("a list");
        let allowed = rules[1]["ports"].as_array().expect("a list");
        let allowed: BTreeSet<u64> = allowed
            .iter()
            .filter_map(|port| port["port"].as_u64())
            .collect();
        assert!(!needed.is_empty());
        assert_eq!(allowed, needed, "{name}");
    }
}
