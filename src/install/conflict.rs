//! Whether a unit called after a gateway or a relay would come into conflict with something else on
//! this machine.
//!
//! A named service is a unit of that very name, and `/etc/systemd/system` wins over the units of
//! packages: without these checks, a gateway called `ssh` would take the place of the SSH server.
//! So a name is refused if it is one of those that distributions use, present on this machine or
//! not, and if systemd knows anything by it that this program did not write.

use std::fmt;
use std::path::{Path, PathBuf};

use super::existing;
use super::place::{PACKAGED_UNITS, Place, UNITS};
use super::unit_templates::MARK;

/// Units of the system and of common services, without `.service`.
const RESERVED: &str = "
    accounts-daemon acpid alsa-restore anacron apache2 apparmor apport apt-daily apt-daily-upgrade
    apt-news atd auditd autofs autovt avahi-daemon bind9 blk-availability bluetooth bolt boot
    caddy chrony chronyd cloudflared colord connman console-getty console-setup consul
    container-getty containerd cri-o crio cron crond crontab cryptsetup cups dbus debug-shell
    default dhcpcd display-manager dm-event dnf-makecache dnsmasq docker dovecot dracut
    elasticsearch emergency esm-cache etcd exim4 fail2ban finalrd firewalld frr fstrim fwupd gdm
    gdm3 getty gpsd grafana-server graphical grub-common gssproxy haproxy haveged hibernate
    hostname httpd hwclock ifup infisical infisical-gateway infisical-gateway-online
    infisical-gateway-wait-online infisical-relay ip6tables ipmi iptables irqbalance iscsi iscsid
    iwd k3s kdump kea-dhcp4-server kexec keyboard-setup kmod kubelet libvirtd lightdm lm-sensors
    local-fs login logrotate lvm2 lxc lxd man-db mariadb mcelog mdadm mdmonitor memcached
    microcode ModemManager modprobe mongod monit motd-news multi-user multipathd mysql mysqld
    named netfilter-persistent netplan network network-online networkd-dispatcher networking
    NetworkManager nfs-server nftables nginx nmbd node_exporter nomad nscd nslcd ntp ntpd ntpsec
    oomd open-vm-tools openvpn packagekit pcscd plymouth podman polkit polkitd postfix postgresql
    power-profiles-daemon poweroff procps prometheus qemu-guest-agent quota quotacheck
    rabbitmq-server raid-check rc-local reboot redis redis-server remote-fs rescue resolvconf
    restorecond rngd rpcbind rsync rsyslog rtkit-daemon runlevel samba screen-cleanup
    secureboot-db selinux-autorelabel sendmail serial serial-getty setvtrgb shutdown slapd sleep
    smartd smartmontools smbd snapd snmpd squid ssh sshd sshd-keygen sssd strongswan sudo
    supervisor suspend switcheroo-control syslog syslog-ng sysstat system systemd tailscaled
    telegraf teleport tftpd-hpa thermald tor tuned ua-timer ubuntu-advantage udev udisks2 ufw
    unattended-upgrades unbound upower usbmuxd user uuidd vault vboxadd vmtoolsd wickedd winbind
    wpa_supplicant x11-common xinetd ypbind zabbix-agent zfs-zed
";

/// Beginnings of names that belong to the system.
const PREFIXES: &str = "
    apt-daily cloud- dbus- dev- dracut- getty- grub2- initrd- iscsi- kmod- ldconfig lvm2- nfs-
    org. plymouth- polkit- proc- rpc- run- snap. snapd. sshd- sys- systemd- user- zfs-
";

/// Types of units that `systemctl` could mean by a name, or that start a service of that name.
const TYPES: [&str; 8] = [
    "service",
    "socket",
    "path",
    "timer",
    "mount",
    "automount",
    "swap",
    "target",
];

/// Something else that has the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// The system, or a common service, uses it.
    Reserved,
    /// A file of another unit, or a drop-in for one.
    File(PathBuf),
    /// The manager has a unit of this name, from a file, another unit's alias, or the kernel.
    Unit {
        /// The name that was asked for.
        name: String,
        /// The name of the unit.
        id: String,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved => f.write_str("it is the name of a service of the system"),
            Self::File(path) => write!(f, "{} is not of this program", path.display()),
            Self::Unit { name, id } if name == id => write!(f, "systemd has a unit {id}"),
            Self::Unit { name, id } => write!(f, "{name} is another name of {id}"),
        }
    }
}

/// The units to ask the manager about.
pub(crate) fn units(place: &Place) -> Vec<String> {
    let stem = place.stem();
    TYPES.map(|kind| format!("{stem}.{kind}")).to_vec()
}

/// True if the system or a common service has the name.
fn is_reserved(stem: &str) -> bool {
    RESERVED.split_whitespace().any(|name| name == stem)
        || PREFIXES
            .split_whitespace()
            .any(|prefix| stem.starts_with(prefix))
}

/// Everything below `root` (`/`, but for tests) that has the name of `place` and was not written by
/// this program; the unit file of `place` itself is left to [`existing`]. `is_ours` says that the
/// service was installed before: its drop-ins in `/etc` and `/run` are then the administrator's
/// changes.
pub(crate) fn find(root: &Path, place: &Place, is_ours: bool) -> Vec<Conflict> {
    if place.name().is_none() {
        return Vec::new();
    }
    let stem = place.stem();
    let mut found = Vec::new();
    if is_reserved(&stem) {
        found.push(Conflict::Reserved);
    }
    let mut names: Vec<String> = units(place);
    names.extend(["service", "socket"].map(|kind| format!("{stem}@.{kind}")));
    for (folder, inside) in existing::unit_folders(root) {
        let own = |name: &str| folder == UNITS && name == place.service();
        let files = names.iter().filter(|name| !own(name));
        let files = files.map(|name| inside.join(name));
        found.extend(
            files
                .filter(|path| path.symlink_metadata().is_ok())
                .map(Conflict::File),
        );
        let is_changeable = !PACKAGED_UNITS.contains(&folder);
        if !(is_ours && is_changeable) {
            found.extend(drop_ins(&inside, &stem));
        }
    }
    let script = root.join("etc/init.d").join(&stem);
    if script.symlink_metadata().is_ok() {
        found.push(Conflict::File(script));
    }
    found
}

/// Drop-ins in `folder` that apply to services called `stem`: their own, and those for a beginning
/// that ends with `-`.
fn drop_ins(folder: &Path, stem: &str) -> Vec<Conflict> {
    let prefixes = stem.match_indices('-').map(|(at, dash)| at + dash.len());
    let prefixes = prefixes.filter_map(|end| stem.get(..end));
    let mut found = Vec::new();
    for name in prefixes.chain([stem]) {
        let directory = folder.join(format!("{name}.service.d"));
        let foreign = existing::drop_ins(&directory)
            .into_iter()
            .filter(|(_, text)| !text.starts_with(MARK));
        found.extend(foreign.map(|(file, _)| Conflict::File(directory.join(file))));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Conflict, find, is_reserved, units};
    use crate::install::place::{Place, Role};

    fn place(name: &str) -> Place {
        Place::try_new(Role::Gateway, Some(name)).expect("a place")
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn shown(found: &[Conflict], root: &Path) -> Vec<String> {
        let root = root.display().to_string();
        found
            .iter()
            .map(|conflict| conflict.to_string().replace(&root, ""))
            .collect()
    }

    #[test]
    fn names_of_the_system_are_reserved() {
        for name in [
            "ssh",
            "sshd",
            "dbus",
            "cron",
            "crond",
            "networking",
            "getty",
            "systemd-resolved",
            "infisical-gateway",
            "infisical-relay",
            "docker",
            "user-1000",
            "cloud-init",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in [
            "edge",
            "office",
            "ssh-gateway",
            "infisical-gateway-2",
            "systemd1",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
        let root = tempfile::tempdir().expect("a directory");
        let found = find(root.path(), &place("ssh"), true);
        assert_eq!(found, [Conflict::Reserved]);
    }

    #[test]
    fn every_unit_with_the_name_is_found() {
        for (file, conflicts) in [
            ("usr/lib/systemd/system/edge.service", true),
            ("usr/lib/systemd/system/edge.socket", true),
            ("etc/systemd/system/edge.path", true),
            ("etc/systemd/system/edge.timer", true),
            ("run/systemd/generator/edge.mount", true),
            ("run/systemd/transient/edge.service", true),
            ("usr/lib/systemd/system/edge@.service", true),
            ("etc/init.d/edge", true),
            // Its own unit is not for this to judge, and others have other names.
            ("etc/systemd/system/edge.service", false),
            ("etc/systemd/system/edge.service.wants/a.service", false),
            ("etc/systemd/system/edge2.service", false),
            (
                "etc/systemd/system/infisical-gateway@edge.service.d/a.conf",
                false,
            ),
        ] {
            let root = tempfile::tempdir().expect("a directory");
            write(root.path(), file, "[Unit]\n");
            let found = find(root.path(), &place("edge"), true);
            let expected = conflicts.then(|| format!("/{file} is not of this program"));
            assert_eq!(
                shown(&found, root.path()),
                Vec::from_iter(expected),
                "{file}"
            );
        }
    }

    #[test]
    fn alias_and_masked_unit_are_found() {
        let root = tempfile::tempdir().expect("a directory");
        write(
            root.path(),
            "usr/lib/systemd/system/real.socket",
            "[Socket]\n",
        );
        for (alias, target) in [("a.socket", "real.socket"), ("b.timer", "/dev/null")] {
            let path = root.path().join("usr/lib/systemd/system").join(alias);
            std::os::unix::fs::symlink(target, path).expect("a link");
        }
        for name in ["a", "b"] {
            let found = find(root.path(), &place(name), false);
            assert!(matches!(&found[..], [Conflict::File(_)]), "{found:?}");
        }
    }

    #[test]
    fn drop_ins_are_foreign_on_foreign_services() {
        let own = "# Written by infisical gateway systemd install\n";
        for (file, text, fresh, upgrade) in [
            (
                "etc/systemd/system/edge-1.service.d/a.conf",
                "[Service]\n",
                1,
                0,
            ),
            (
                "etc/systemd/system/edge-.service.d/a.conf",
                "[Service]\n",
                1,
                0,
            ),
            (
                "run/systemd/system/edge-1.service.d/a.conf",
                "[Service]\n",
                1,
                0,
            ),
            ("usr/lib/systemd/system/edge-1.service.d/a.conf", "", 1, 1),
            (
                "etc/systemd/system/edge-1.service.d/dynamic-user.conf",
                own,
                0,
                0,
            ),
            ("etc/systemd/system/edge-1.service.d/a.txt", "", 0, 0),
            ("etc/systemd/system/service.d/a.conf", "", 0, 0),
        ] {
            let root = tempfile::tempdir().expect("a directory");
            write(root.path(), file, text);
            for (is_ours, count) in [(false, fresh), (true, upgrade)] {
                let found = find(root.path(), &place("edge-1"), is_ours);
                assert_eq!(found.len(), count, "{file}, {is_ours}: {found:?}");
            }
        }
    }

    #[test]
    fn only_gateway_has_its_own_name() {
        let only = Place::try_new(Role::Gateway, None).expect("a place");
        assert_eq!(find(Path::new("/"), &only, false), []);
        assert!(units(&place("edge")).contains(&"edge.timer".to_owned()));
    }
}
