//! The corpora once more, and variations of them that no one has chosen. With a seed of your own:
//! `FUZZ_SEED=1 FUZZ_TIMES=100 cargo test --lib fuzzing -- --nocapture`

use std::path::{Path, PathBuf};

use infisical_api::fuzzing::cloud_answer;
use infisical_config::fuzzing::{env_file, target_rules};
use infisical_gateway::fuzzing::http_proxy_line;
use infisical_pki::fuzzing::x509_extensions;
use infisical_ssh::fuzzing::{
    cert as ssh_cert, connection as ssh_connection, kex as ssh_kex, keys as ssh_keys,
    msg_roundtrip as ssh_msg_roundtrip, packet as ssh_packet, version as ssh_version,
};

struct Target {
    name: &'static str,
    run: fn(&[u8]),
    /// Variations in a usual run of the tests; some take longer than others.
    tries: u64,
}

const fn target(name: &'static str, run: fn(&[u8]), tries: u64) -> Target {
    Target { name, run, tries }
}

const TARGETS: [Target; 12] = [
    target("cloud_answer", cloud_answer, 5000),
    target("env_file", env_file, 2000),
    target("http_proxy_line", http_proxy_line, 5000),
    target("ssh_cert", ssh_cert, 2000),
    target("ssh_connection", ssh_connection, 600),
    target("ssh_kex", ssh_kex, 500),
    target("ssh_keys", ssh_keys, 2000),
    target("ssh_msg_roundtrip", ssh_msg_roundtrip, 20_000),
    target("ssh_packet", ssh_packet, 5000),
    target("ssh_version", ssh_version, 5000),
    target("target_rules", target_rules, 5000),
    target("x509_extensions", x509_extensions, 5000),
];

fn folder(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(below)
}

/// What is in a folder, in the order of the names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let files = files(&folder("corpus").join(target.name));
    assert!(!files.is_empty(), "{}: the corpus is empty", target.name);
    let read = |path: PathBuf| std::fs::read(path).expect("a file");
    files.into_iter().map(read).collect()
}

/// Says which bytes it was, should the target panic.
struct Trial<'a> {
    target: &'a Target,
    data: &'a [u8],
}

impl Trial<'_> {
    fn run(target: &Target, data: &[u8]) {
        let _trial = Trial { target, data };
        (target.run)(data);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.data.iter().map(|b| format!("{b:02x}")).collect();
            println!("{} fails with these bytes: {hex}", self.target.name);
        }
    }
}

/// Numbers that look random (splitmix64), the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).expect("a number");
        usize::try_from(self.next() % limit).expect("a number")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.byte()).collect()
    }

    /// One of the corpus, with a few changes; now and then something else altogether.
    fn variation(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut data = match self.below(10) {
            0 => return self.bytes(300),
            _ => corpus[self.below(corpus.len())].clone(),
        };
        for _ in 0..=self.below(4) {
            let place = self.below(data.len() + 1);
            match self.below(7) {
                0 => data.truncate(place),
                1 => data.insert(place, self.byte()),
                2 => {
                    let (new, end) = (self.bytes(16), data.len().min(place + self.below(16)));
                    data.splice(place..end, new);
                }
                3 => {
                    // The end of another, or of itself again.
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len() + 1);
                    data.truncate(place);
                    data.extend_from_slice(&other[from..]);
                }
                4 => {
                    // Lengths and numbers at their edges.
                    let edge = [0, 1, 0x7f, 0x80, 0xff][self.below(5)];
                    let end = data.len().min(place + 1 + self.below(4));
                    data[place..end].fill(edge);
                }
                5 => data.extend(self.bytes(32)),
                _ => {
                    if let Some(byte) = data.get_mut(place) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        data
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn fuzzers_findings_are_harmless() {
    for target in &TARGETS {
        for data in corpus(target) {
            Trial::run(target, &data);
        }
    }
}

#[test]
fn variations_of_it_are_harmless() {
    let seed = number("FUZZ_SEED").unwrap_or_else(|| {
        let bytes = getrandom::u64().expect("a random number");
        bytes % 1_000_000
    });
    let times = number("FUZZ_TIMES").unwrap_or(1);
    println!("FUZZ_SEED={seed} FUZZ_TIMES={times}");
    for target in &TARGETS {
        let corpus = corpus(target);
        let mut random = Random(seed);
        for _ in 0..target.tries.saturating_mul(times) {
            Trial::run(target, &random.variation(&corpus));
        }
    }
}

#[test]
fn every_target_has_a_corpus() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let stems = |below: &str| -> Vec<String> {
        let files = files(&folder(below));
        let stems = files.iter().filter_map(|path| path.file_stem()?.to_str());
        stems.map(str::to_owned).collect()
    };
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
    let manifest = std::fs::read_to_string(folder("Cargo.toml")).expect("a manifest");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// Real exchanges, and what else is worth beginning with.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = infisical_ssh::fuzzing::seeds::all();
    for names in [
        &["gateway-1"][..],
        &["platform:gateway-1"],
        &["a", "b"],
        &[],
    ] {
        for (route, actor) in [
            (
                r#"{"targetHost":"db.internal","targetPort":5432}"#,
                r#"{"type":"platform","id":"1","name":"x"}"#,
            ),
            ("{}", "null"),
        ] {
            seeds.push(("x509_extensions", client_certificate(names, route, actor)));
        }
    }
    for text in [
        "# settings\nINFISICAL_TOKEN=abc\nINFISICAL_DOMAIN=\"https://example.com\"\n",
        "domain = \"https://example.com\"\n[relay]\nhost = '192.0.2.1'\n",
        "export INFISICAL_TOKEN='a b'\r\n;\nNOPE=1\n=\n",
        "a = 1\na = 2\n[b]]\n",
    ] {
        seeds.push(("env_file", text.into()));
    }
    for rules in [
        "10.0.0.0/16:443, db.internal:5432 [fd00::/8]:8000-8999 *.internal .internal *:22",
        "169.254.169.254 ::ffff:169.254.169.254 fe80::/10 2002:a9fe:a9fe::/48:1",
        "10.0.0.1/8 127.1 0x7f.1 db:0 [::1 a..b",
    ] {
        seeds.push(("target_rules", rules.into()));
    }
    for answer in [
        r#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"s","Token":"t"}"#,
        "<R><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken></R>",
        "# c\n[default]\nregion = x-1\naws_access_key_id=A\naws_secret_access_key=s\n[profile work]\nrole_arn=r\n",
        "eyJhbGciOiJub25lIn0.eyJpYXQiOjEwMDAsImV4cCI6MTEwMH0.c2ln",
        r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
    ] {
        seeds.push(("cloud_answer", answer.into()));
    }
    for line in [
        "verify=true\n",
        "verify=false ca=\r\n",
        "ca=LS0tLS1CRUdJTg== verify=maybe",
        "ca=!\n",
    ] {
        seeds.push(("http_proxy_line", line.into()));
    }
    seeds.push(("http_proxy_line", {
        use base64::Engine as _;
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::default();
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let ca = base64::engine::general_purpose::STANDARD.encode(pem);
        format!("ca={ca} verify=true\n").into_bytes()
    }));
    seeds
}

fn client_certificate(names: &[&str], route: &str, actor: &str) -> Vec<u8> {
    use infisical_pki::extensions::{ACTOR_OID, ROUTING_OID};
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for name in names {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, *name);
    }
    for (oid, value) in [(ROUTING_OID, route), (ACTOR_OID, actor)] {
        let oid: Vec<u64> = oid
            .split('.')
            .map(|n| n.parse().expect("a number"))
            .collect();
        let extension = rcgen::CustomExtension::from_oid_content(&oid, value.into());
        params.custom_extensions.push(extension);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    params
        .self_signed(&key)
        .expect("a certificate")
        .der()
        .to_vec()
}

#[test]
#[ignore = "writes fuzz/corpus again"]
fn the_corpora_begin() {
    let mut number = 0;
    let mut last = "";
    for (target, data) in seeds() {
        number = if target == last { number + 1 } else { 0 };
        last = target;
        let folder = folder("corpus").join(target);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("seed-{number:02}")), data).expect("written");
    }
}
