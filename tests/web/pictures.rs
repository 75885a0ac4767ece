//! The pictures of the README and of docs/platform.md. They are written with `UPDATE_GENERATED` in
//! the environment; otherwise the case shows only that they can be made.

use std::path::Path;

use crate::browser::Driver;
use crate::lab;
use crate::support::stack::Stack;

/// Longest file, in bytes: they are part of the repository.
const MAX_PICTURE: usize = 150 * 1024;

pub(crate) async fn documents_show_these_pages(driver: Driver) {
    let stack: Stack = lab::lively().await;
    for name in ["office", "warehouse", "staging"] {
        stack.register_gateway(name).await;
    }
    let another = stack.spawn_another_gateway("berlin").await;
    let browser = driver.browser().await;
    browser.set_size(1180, 520).await;
    lab::log_in(&browser, &stack.platform).await;
    browser
        .shows("tr[data-key='gateway berlin'] .state", "Reachable")
        .await;
    browser
        .shows(
            "tr[data-key='gateway berlin'] td[data-column=Certificate]",
            "ends",
        )
        .await;
    browser.shows("#live", "Live").await;
    keep("gateways.png", &browser.picture().await);
    browser.set_dark(true).await;
    keep("gateways-dark.png", &browser.picture().await);
    browser.set_dark(false).await;
    browser
        .open(&format!("{}/gateways/add", stack.platform.url))
        .await;
    browser.type_into("#name", "paris").await;
    browser.click("main button.primary").await;
    browser.shows(".arrival", "Waiting for it to enroll").await;
    browser.shows("#live", "Live").await;
    keep("add-a-gateway.png", &browser.picture().await);
    assert!(another.is_running());
    browser.quit().await;
}

fn keep(name: &str, picture: &[u8]) {
    assert!(picture.starts_with(b"\x89PNG"), "{name} is no PNG");
    assert!(
        picture.len() <= MAX_PICTURE,
        "{name} has {} bytes",
        picture.len()
    );
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/img");
        std::fs::create_dir_all(&folder).expect("a directory");
        std::fs::write(folder.join(name), picture).expect("written");
    }
}
