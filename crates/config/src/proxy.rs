//! The proxy for requests to the platform: which one applies, as Go's `httpproxy` package decides
//! it, since the deployed programs do.
//!
//! A value that cannot be used is a problem that names its variable, never a direct connection.
//! User names and passwords are used, and never shown.

use std::ffi::OsStr;
use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::domain::is_loopback;
use super::no_proxy::NoProxy;
use crate::secret::Secret;

/// Every variable, by the setting that it is for; the first of a setting that is not empty counts.
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
/// Used where the others are not set. Go does not know it, but curl and many other programs do.
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
pub(super) const BYPASS: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// All of them.
const SETTINGS: [[&str; 2]; 4] = [HTTPS, HTTP, ALL, BYPASS];

/// True for a variable for proxies.
pub(super) fn is_known(name: &str) -> bool {
    SETTINGS.as_flattened().contains(&name)
}

/// What the variables for proxies hold. One that is set and empty is kept, as a mistake of
/// [`ProxyVariables::proxies`]; only an empty `NO_PROXY` counts as unset, since it excepts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    values: Vec<Given>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    name: &'static str,
    /// `None` if it is not text.
    value: Option<Secret>,
    /// The line of a file that sets it; `None` for the environment.
    line: Option<String>,
}

impl Given {
    fn text(&self) -> Result<&str, InvalidProxy> {
        let text = self.value.as_ref().map(Secret::expose);
        text.ok_or(InvalidProxy::NotText)
    }

    /// Where it is set, for a problem.
    fn place(&self) -> String {
        match &self.line {
            Some(line) => line.clone(),
            None => format!("environment variable {}", self.name),
        }
    }
}

/// Why a variable cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidProxy {
    #[error("the value is not UTF-8 text")]
    NotText,
    #[error(
        "the value is empty; unset the variable for direct connections, or give the proxy's URL"
    )]
    Empty,
    #[error("the value is in quotes; remove them")]
    Quoted,
    #[error("the value names another variable, which nothing has replaced")]
    Unexpanded,
    #[error("the value holds white space or control characters")]
    Characters,
    #[error("the value is not the URL of a proxy, such as http://proxy.example:3128")]
    NotAUrl,
    #[error("the URL of a proxy must begin with http://, https://, socks5:// or socks5h://")]
    Scheme,
}

/// The proxies of this machine, and what is reached without them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    bypass: NoProxy,
}

/// One proxy. Its `Display` is the URL without user name and password, and the variable, with
/// its line if a file sets it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    variable: String,
}

/// Which way requests to a platform take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// Through a proxy.
    Proxy(&'a Proxy),
    /// Directly, because there is no proxy.
    Direct,
    /// Directly, although there is a proxy: the platform is on this machine.
    Loopback,
    /// Directly, although there is a proxy: `NO_PROXY` says so.
    Bypassed,
}

impl ProxyVariables {
    /// Keeps `value` if `name` is one of the variables for proxies, which a file sets in `line` or
    /// else the environment.
    pub(crate) fn keep(&mut self, name: &str, value: &OsStr, line: Option<&str>) {
        let mut names = SETTINGS.as_flattened().iter().copied();
        if let Some(name) = names.find(|known| *known == name)
            && (!BYPASS.contains(&name) || !value.as_encoded_bytes().trim_ascii().is_empty())
        {
            let value = value.to_str().map(Secret::new);
            let line = line.map(str::to_owned);
            self.values.push(Given { name, value, line });
        }
    }

    /// The passwords in the variables.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Secret> {
        self.values.iter().filter_map(|given| {
            let url = Url::parse(given.text().ok()?).ok()?;
            url.password().map(Secret::new)
        })
    }

    /// The variables that are set, whatever they hold.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.values.iter().map(|given| given.name)
    }

    /// These variables, and those of `weaker` for what these do not set.
    #[must_use]
    pub(crate) fn or(&self, weaker: &Self) -> Self {
        let mut values = self.values.clone();
        for names in SETTINGS {
            if self.first(names).is_none() {
                let of_setting = weaker
                    .values
                    .iter()
                    .filter(|given| names.contains(&given.name));
                values.extend(of_setting.cloned());
            }
        }
        Self { values }
    }

    /// The proxies that the variables name.
    ///
    /// # Errors
    /// Each variable that counts and cannot be used, by where it is set, and why.
    pub fn proxies(&self) -> Result<Proxies, Vec<(String, InvalidProxy)>> {
        let mut problems = Vec::new();
        let mut proxy = |names| {
            let given = self.first(names)?;
            let variable = given.line.clone().unwrap_or_else(|| given.name.to_owned());
            let url = given.text().and_then(parse);
            url.map(|url| Proxy { url, variable })
                .map_err(|why| problems.push((given.place(), why)))
                .ok()
        };
        let (https, http, all) = (proxy(HTTPS), proxy(HTTP), proxy(ALL));
        let bypass = match self.first(BYPASS) {
            Some(given) => given
                .text()
                .and_then(check)
                .map(NoProxy::parse)
                .map_err(|why| problems.push((given.place(), why)))
                .unwrap_or_default(),
            None => NoProxy::default(),
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Proxies {
            https: https.or_else(|| all.clone()),
            http: http.or(all),
            bypass,
        })
    }

    fn first(&self, names: [&str; 2]) -> Option<&Given> {
        names
            .iter()
            .find_map(|name| self.values.iter().find(|given| given.name == *name))
    }
}

impl Proxies {
    /// The way to `url`.
    #[must_use]
    pub fn way(&self, url: &Url) -> Way<'_> {
        let proxy = match url.scheme() {
            "https" => &self.https,
            "http" => &self.http,
            _ => &None,
        };
        let Some(proxy) = proxy else {
            return Way::Direct;
        };
        // A proxy's loopback is another machine's.
        if is_loopback(url) {
            return Way::Loopback;
        }
        let (host, address) = match url.host() {
            Some(Host::Domain(name)) => (name.to_ascii_lowercase(), None),
            Some(Host::Ipv4(address)) => (address.to_string(), Some(IpAddr::from(address))),
            Some(Host::Ipv6(address)) => (address.to_string(), Some(IpAddr::from(address))),
            None => return Way::Direct,
        };
        let address = address.map(|address| address.to_canonical());
        let port = url.port_or_known_default().unwrap_or_default();
        if self.bypass.holds(&host, address, port) {
            return Way::Bypassed;
        }
        Way::Proxy(proxy)
    }
}

impl Proxy {
    /// Its URL, user name and password included.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.url.scheme();
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{scheme}://{host}")?;
        if let Some(port) = self.url.port() {
            write!(f, ":{port}")?;
        }
        write!(f, " ({})", self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(proxy) => proxy.fmt(f),
            Self::Direct => f.write_str("none"),
            Self::Loopback => f.write_str("none, since the platform is on this machine"),
            Self::Bypassed => f.write_str("none, because of NO_PROXY"),
        }
    }
}

/// Text that was meant as it stands, without white space around it.
fn check(value: &str) -> Result<&str, InvalidProxy> {
    let value = value.trim();
    if value.is_empty() {
        return Err(InvalidProxy::Empty);
    }
    if value.starts_with(['"', '\'', '`']) || value.ends_with(['"', '\'', '`']) {
        return Err(InvalidProxy::Quoted);
    }
    if value.contains("${") || value.contains("$(") || value.starts_with('$') {
        return Err(InvalidProxy::Unexpanded);
    }
    Ok(value)
}

fn parse(value: &str) -> Result<Url, InvalidProxy> {
    let value = check(value)?;
    if value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(InvalidProxy::Characters);
    }
    let with_scheme = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let mut url = Url::parse(&with_scheme).map_err(|_| InvalidProxy::NotAUrl)?;
    // As Go has it, the proxy resolves names.
    let (scheme, default_port) = match url.scheme() {
        "http" => ("http", None),
        "https" => ("https", None),
        "socks5" | "socks5h" => ("socks5h", Some(1080)),
        _ => return Err(InvalidProxy::Scheme),
    };
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err(InvalidProxy::NotAUrl);
    }
    if url.port().is_none() && default_port.is_some() {
        url.set_port(default_port)
            .map_err(|()| InvalidProxy::NotAUrl)?;
    }
    url.set_scheme(scheme).map_err(|()| InvalidProxy::Scheme)?;
    // A request to a proxy has no path of its own.
    url.set_path("");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::{InvalidProxy, Proxies, ProxyVariables, Way};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use url::Url;

    const FAR: &str = "https://platform.example/api";

    fn of(variables: &[(&str, &str)]) -> ProxyVariables {
        let mut kept = ProxyVariables::default();
        for (name, value) in variables {
            kept.keep(name, OsStr::new(value), None);
        }
        kept
    }

    fn in_environment(
        name: &str,
        why: InvalidProxy,
    ) -> Result<Proxies, Vec<(String, InvalidProxy)>> {
        Err(vec![(format!("environment variable {name}"), why)])
    }

    fn proxies(variables: &[(&'static str, &'static str)]) -> Proxies {
        of(variables).proxies().expect("usable")
    }

    fn way(variables: &[(&'static str, &'static str)], url: &str) -> String {
        let url = Url::parse(url).expect("a URL");
        proxies(variables).way(&url).to_string()
    }

    #[test]
    fn variables_count_by_scheme_and_case() {
        for (variables, https, http) in [
            (&[][..], "none", "none"),
            (
                &[("HTTPS_PROXY", "http://p:1")],
                "http://p:1 (HTTPS_PROXY)",
                "none",
            ),
            (
                &[("https_proxy", "p:1")],
                "http://p:1 (https_proxy)",
                "none",
            ),
            (
                &[
                    ("https_proxy", "http://low:1"),
                    ("HTTPS_PROXY", "http://up:1"),
                ],
                "http://up:1 (HTTPS_PROXY)",
                "none",
            ),
            (
                &[("HTTP_PROXY", "https://p")],
                "none",
                "https://p (HTTP_PROXY)",
            ),
            (
                &[("ALL_PROXY", "socks5://p"), ("http_proxy", "p")],
                "socks5h://p:1080 (ALL_PROXY)",
                "http://p (http_proxy)",
            ),
            (
                &[("HTTPS_PROXY", " http://user:hunter2@[fd00::1]:3128/path?x ")],
                "http://[fd00::1]:3128 (HTTPS_PROXY)",
                "none",
            ),
        ] {
            assert_eq!(way(variables, FAR), https, "{variables:?}");
            assert_eq!(
                way(variables, "http://platform.example/api"),
                http,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn local_hosts_are_reached_without_proxy() {
        let proxy = [("ALL_PROXY", "http://p:1")];
        for url in [
            "http://127.0.0.1:8080/api",
            "http://127.9.9.9",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]",
            "https://localhost",
            "https://a.LOCALHOST",
        ] {
            let found = way(&proxy, url);
            assert_eq!(
                found, "none, since the platform is on this machine",
                "{url}"
            );
        }
        assert_eq!(way(&proxy, "http://10.0.0.1"), "http://p:1 (ALL_PROXY)");
        let bypass = [("ALL_PROXY", "http://p:1"), ("no_proxy", "10.0.0.0/8")];
        assert_eq!(way(&bypass, "http://10.0.0.1"), "none, because of NO_PROXY");
    }

    #[test]
    fn invalid_proxy_values_name_their_variable() {
        for (value, why) in [
            ("", InvalidProxy::Empty),
            (" ", InvalidProxy::Empty),
            ("\t", InvalidProxy::Empty),
            ("\"http://p:1\"", InvalidProxy::Quoted),
            ("'http://p:1'", InvalidProxy::Quoted),
            ("http://p:1\"", InvalidProxy::Quoted),
            ("${PROXY}", InvalidProxy::Unexpanded),
            ("http://${HOST}:1", InvalidProxy::Unexpanded),
            ("$PROXY", InvalidProxy::Unexpanded),
            ("http://p:1 # comment", InvalidProxy::Characters),
            ("http://p:port", InvalidProxy::NotAUrl),
            ("http://", InvalidProxy::NotAUrl),
            ("http://p:0", InvalidProxy::NotAUrl),
            ("http://p:99999", InvalidProxy::NotAUrl),
            ("ftp://p:1", InvalidProxy::Scheme),
            ("socks4://p:1", InvalidProxy::Scheme),
        ] {
            for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"] {
                let problems = of(&[(name, value)]).proxies();
                assert_eq!(problems, in_environment(name, why), "{value}");
                let mut line = ProxyVariables::default();
                let place = format!("{name} in /gateway.conf line 3");
                line.keep(name, OsStr::new(value), Some(&place));
                assert_eq!(line.proxies(), Err(vec![(place, why)]), "{value}");
            }
            assert!(!why.to_string().contains("//p:"));
        }
        let problems = of(&[("NO_PROXY", "\"a,b\"")]).proxies();
        assert_eq!(problems, in_environment("NO_PROXY", InvalidProxy::Quoted));
        // What is empty does not give way to the other spelling.
        let both = [("https_proxy", "http://p:1"), ("HTTPS_PROXY", "")];
        let problems = of(&both).proxies();
        let expected = in_environment("HTTPS_PROXY", InvalidProxy::Empty);
        assert_eq!(problems, expected);
        for nothing in ["", " "] {
            assert_eq!(
                of(&[("NO_PROXY", nothing)]).proxies(),
                Ok(Proxies::default())
            );
        }
        let mut bytes = ProxyVariables::default();
        bytes.keep("HTTPS_PROXY", OsStr::from_bytes(b"http://\xff"), None);
        let problems = bytes.proxies();
        let expected = in_environment("HTTPS_PROXY", InvalidProxy::NotText);
        assert_eq!(problems, expected);
    }

    #[test]
    fn environment_wins_over_the_file_each() {
        let environment = of(&[("https_proxy", "http://environment:1")]);
        let mut file = ProxyVariables::default();
        for (name, value) in [
            ("HTTPS_PROXY", "http://file:1"),
            ("HTTP_PROXY", "http://file:2"),
            ("NO_PROXY", "inside.example"),
            ("TZ", "UTC"),
        ] {
            file.keep(
                name,
                OsStr::new(value),
                Some(&format!("{name} in /gateway.conf line 2")),
            );
        }
        let both = environment.or(&file).proxies();
        let both = both.expect("usable");
        let way = |url| both.way(&Url::parse(url).expect("a URL")).to_string();
        assert_eq!(way(FAR), "http://environment:1 (https_proxy)");
        assert_eq!(
            way("http://platform.example"),
            "http://file:2 (HTTP_PROXY in /gateway.conf line 2)"
        );
        assert_eq!(way("http://inside.example"), "none, because of NO_PROXY");
    }

    #[test]
    fn passwords_are_used_and_never_shown() {
        let variables = [("HTTPS_PROXY", "http://user:hunter%32@p:1")];
        let found = proxies(&variables);
        let Way::Proxy(proxy) = found.way(&Url::parse(FAR).expect("a URL")) else {
            panic!("no proxy");
        };
        assert_eq!(proxy.url().password(), Some("hunter%32"));
        let kept = of(&variables);
        let shown = format!("{found:?} {kept:?} {proxy} {proxy:?}");
        assert!(
            !shown.contains("hunter") && !shown.contains("user"),
            "{shown}"
        );
    }
}
