//! What is asserted of the pages.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::axe::Axe;
use crate::browser::{Browser, Driver, ENTER, TAB};
use crate::lab::{self, PAGES};
use crate::pictures::documents_show_these_pages;
use crate::support::daemon::GatewayCommand;
use crate::support::stack::{GATEWAY, RELAY, Stack};
use nix::sys::signal::Signal;

/// Within this a page shows that a gateway is gone, or back.
const PROMISED: Duration = Duration::from_secs(10);
/// More than there are to reach anything by the keyboard.
const MAX_TABS: usize = 60;

type Case = fn(Driver) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! table {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const TABLE: [(&str, Case); [$(stringify!($name)),+].len()] = [
            $((stringify!($name), |driver| Box::pin($name(driver)))),+
        ];
    };
}

table![
    added_gateway_turns_green_without_reload,
    killed_gateway_turns_red_and_green_again,
    pages_have_no_accessibility_violation,
    keyboard_alone_reaches_every_page,
    phones_need_no_sideways_scrolling,
    pages_work_without_javascript,
    documents_show_these_pages,
];

/// The row of the stack's gateway.
const ROW: &str = "tr[data-key='gateway gateway-one'] .state";

/// A name goes in, a command comes out; who runs it sees the page turn green.
async fn added_gateway_turns_green_without_reload(driver: Driver) {
    let stack = Stack::start().await;
    let browser = driver.browser().await;
    lab::log_in(&browser, &stack.platform).await;
    browser.click("a[href='/gateways/add']").await;
    browser.type_into("#name", "office").await;
    browser.click("main button.primary").await;
    browser.shows(".arrival", "Waiting for it to enroll").await;
    browser
        .run("window.wasNotReloaded = true; return null")
        .await;
    let command = browser.text(".copyable code").await;
    let install = format!(
        "sudo infisical gateway systemd install --domain {} --enroll-method=token --token-file \
         enrollment-token --user",
        stack.platform.url
    );
    assert!(command.contains(&install), "{command}");
    let token = command.split_whitespace().find(|word| word.len() == 64);
    let token = token.unwrap_or_else(|| panic!("no token in {command}"));

    let keys = format!("INFISICAL_TOKEN={token}\n");
    let mut gateway = GatewayCommand::new(stack.dir(), "office", &stack.platform.url, RELAY, &keys);
    gateway.more.push("--enroll-method=token".to_owned());
    let gateway = gateway.spawn(stack.dir());
    browser
        .shows(".arrival.good", "It has arrived, and can be reached")
        .await;
    let said = browser.run("return document.getElementById('announcements').textContent");
    assert!(
        said.await
            .to_string()
            .contains("gateway office is reachable")
    );
    assert_eq!(browser.run("return window.wasNotReloaded").await, true);
    // The token was shown once.
    let url = browser.url().await;
    browser.open(&url).await;
    browser.shows("main", "was shown once").await;
    assert!(!browser.text("main").await.contains(token));
    assert!(gateway.is_running());
    no_complaints(&browser).await;
    browser.quit().await;
}

async fn killed_gateway_turns_red_and_green_again(driver: Driver) {
    let mut stack = Stack::start().await;
    stack
        .gateway
        .wait_for_line("Gateway is reachable by Infisical")
        .await;
    let browser = driver.browser().await;
    lab::log_in(&browser, &stack.platform).await;
    browser.shows(ROW, "Reachable").await;
    browser.shows("#live", "Live").await;
    // Focus and what is open stay where they are while the page is updated.
    browser
        .click("tr[data-key='gateway gateway-one'] summary")
        .await;
    browser
        .run("document.querySelector('details.removal').dataset.mark = 'same'; return null")
        .await;
    for _ in 0..2 {
        stack.gateway.kill().await;
        browser.shows_within(ROW, "Unreachable", PROMISED).await;
        browser
            .shows_within(".summary", "1 unreachable", PROMISED)
            .await;
        let said = browser.run("return document.getElementById('announcements').textContent");
        assert!(
            said.await
                .to_string()
                .contains("gateway gateway-one is unreachable")
        );
        stack.gateway = stack.spawn_gateway();
        stack
            .gateway
            .wait_for_line("Gateway started successfully")
            .await;
        browser.shows_within(ROW, "Reachable", PROMISED).await;
    }
    let kept = "const row = document.querySelector('details.removal');
        return row.open && row.contains(document.activeElement)";
    assert_eq!(browser.run(kept).await, true);
    // The same for the whole platform.
    stack.platform.process.signal(Signal::SIGTERM);
    assert_eq!(
        stack.platform.process.exit_code().await,
        0,
        "the open page does not hold it up"
    );
    browser.shows("#live", "Not live").await;
    browser.quit().await;
}

async fn pages_have_no_accessibility_violation(driver: Driver) {
    let Some(axe) = Axe::fetch() else { return };
    let stack = lab::lively().await;
    let browser = driver.browser().await;
    let mut wrong = Vec::new();
    for is_dark in [false, true] {
        browser.set_dark(is_dark).await;
        browser.open(&format!("{}/login", stack.platform.url)).await;
        wrong.extend(axe.violations(&browser).await);
    }
    lab::log_in(&browser, &stack.platform).await;
    let more = [
        ("/gateways/add?name=office", "Add a gateway"),
        (
            "/access?who=alice&gateway=gateway-one&host=db.internal&port=5432",
            "Access rules",
        ),
        (
            "/access?who=no-one&gateway=gateway-one&host=db.internal&port=5432",
            "Access rules",
        ),
        ("/no-such-page", "There is no such page"),
    ];
    for (path, heading) in PAGES.into_iter().chain(more) {
        browser.open(&format!("{}{path}", stack.platform.url)).await;
        assert_eq!(browser.text("h1").await, heading);
        // What is closed is looked at as well.
        browser
            .run("for (const d of document.querySelectorAll('details')) d.open = true; return null")
            .await;
        for (is_dark, width) in [(false, 1280), (true, 1280), (false, 360)] {
            browser.set_dark(is_dark).await;
            browser.set_size(width, 860).await;
            let found = axe.violations(&browser).await.into_iter();
            wrong.extend(found.map(|text| format!("{path}, dark {is_dark}, {width}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    browser.quit().await;
}

/// Presses Tab until the focus is on an element that fits `selector`.
async fn tab_to(browser: &Browser<'_>, selector: &str) {
    let script = format!("return document.activeElement.matches(\"{selector}\")");
    for _ in 0..MAX_TABS {
        if browser.run(&script).await == true {
            let outline = "const style = getComputedStyle(document.activeElement);
                return style.outlineStyle !== 'none' || style.boxShadow !== 'none'";
            assert_eq!(
                browser.run(outline).await,
                true,
                "{selector}: the focus does not show"
            );
            return;
        }
        browser.press(TAB).await;
    }
    panic!("{selector} is not reached by the Tab key");
}

async fn keyboard_alone_reaches_every_page(driver: Driver) {
    let stack = lab::lively().await;
    let browser = driver.browser().await;
    browser.open(&stack.platform.url).await;
    tab_to(&browser, "#token").await;
    for key in stack.platform.token.chars() {
        browser.press(&key.to_string()).await;
    }
    browser.press(ENTER).await;
    browser.shows("h1", "Gateways").await;
    for (path, heading) in PAGES {
        if path == "/gateways/add" {
            tab_to(&browser, "nav a[href='/gateways']").await;
            browser.press(ENTER).await;
            browser.shows("h1", "Gateways").await;
        }
        tab_to(&browser, &format!("a[href='{path}']")).await;
        browser.press(ENTER).await;
        browser.shows("h1", heading).await;
        let here =
            browser.run("return document.querySelectorAll('nav [aria-current=page]').length");
        assert_eq!(here.await, 1, "{path}");
    }
    // Past the navigation at once.
    browser
        .open(&format!("{}/relays", stack.platform.url))
        .await;
    tab_to(&browser, ".skip").await;
    browser.press(ENTER).await;
    assert_eq!(
        browser.run("return document.activeElement.id").await,
        "main"
    );
    tab_to(&browser, "details.removal summary").await;
    no_complaints(&browser).await;
    browser.quit().await;
}

async fn phones_need_no_sideways_scrolling(driver: Driver) {
    let stack = lab::lively().await;
    let long = "a-name-as-long-as-names-may-be-".repeat(2);
    stack
        .platform
        .enrollment_token("gateway", &long[..60], None)
        .await;
    let browser = driver.browser().await;
    lab::log_in(&browser, &stack.platform).await;
    for width in [320, 360, 800] {
        browser.set_size(width, 740).await;
        for (path, _) in PAGES {
            browser.open(&format!("{}{path}", stack.platform.url)).await;
            let scroll = browser
                .run("return document.documentElement.scrollWidth")
                .await;
            let scroll = scroll.as_u64().expect("a number");
            assert!(
                scroll <= u64::from(width),
                "{path} is {scroll} wide in {width}"
            );
            let hidden = browser.run(
                "return [...document.querySelectorAll('nav a')].filter(
                    (link) => link.getBoundingClientRect().right > innerWidth).length",
            );
            assert_eq!(
                hidden.await,
                0,
                "links of {path} are out of sight in {width}"
            );
        }
    }
    browser.quit().await;
}

async fn pages_work_without_javascript(driver: Driver) {
    let stack = lab::lively().await;
    let browser = driver.browser_without_javascript().await;
    lab::log_in(&browser, &stack.platform).await;
    let url = |path: &str| format!("{}{path}", stack.platform.url);
    for (path, heading) in PAGES {
        browser.open(&url(path)).await;
        browser.shows("h1", heading).await;
    }
    browser.open(&url("/identities")).await;
    browser.type_into("#name", "bob").await;
    browser
        .click("form[action='/identities/create'] button")
        .await;
    browser.shows(".notice.secret", "shown once").await;
    let token = browser.text(".notice.secret code").await;
    assert_eq!(token.len(), 64, "{token}");

    browser.open(&url("/access")).await;
    browser.type_into("#add-who", "bob").await;
    browser.type_into("#add-gateway", GATEWAY).await;
    browser.type_into("#add-targets", "db.internal:5432").await;
    browser.click("form[action='/access/add'] button").await;
    browser.shows(".notice", "in effect").await;
    browser.type_into("#check-who", "bob").await;
    browser.type_into("#check-gateway", GATEWAY).await;
    browser.type_into("#check-host", "db.internal").await;
    browser.type_into("#check-port", "5432").await;
    browser.click("form[method='get'] button").await;
    browser.shows(".verdict", "Allowed").await;

    browser.open(&url("/gateways/add")).await;
    browser.type_into("#name", "office").await;
    browser.click("main button.primary").await;
    browser.shows(".copyable", "--enroll-method=token").await;
    browser.open(&url("/tokens")).await;
    browser.click("tbody tr:first-child summary").await;
    browser.click("tbody tr:first-child button").await;
    browser.shows(".notice", "were revoked").await;

    browser.open(&url("/gateways")).await;
    browser.click("tbody summary").await;
    browser.click("tbody button").await;
    browser.shows(".notice", "was removed").await;
    browser.shows("main", "There is no gateway yet").await;
    browser.open(&url("/audit?kind=administration")).await;
    browser
        .shows("tbody tr:first-child", "delete gateway")
        .await;
    browser.click(".who button").await;
    browser.shows("h1", "Log in").await;
    browser.open(&url("/gateways")).await;
    browser.shows("h1", "Log in").await;
    browser.quit().await;
}

/// The browser has found nothing that the pages' own policy forbids, and no script has failed.
async fn no_complaints(browser: &Browser<'_>) {
    let complaints = browser.console().await;
    assert!(complaints.is_empty(), "{complaints:?}");
}
