//! A network that loses and delays: a namespace of the run's own, with one cable into it.
//!
//! The endpoints listen inside, so that what is made worse is the path to them and nothing else on the machine. The
//! namespace has no name: it lives as long as a process lives in it, and the cable with it. The first such process is
//! on the bench's leash like any other child, so nothing is left behind, whatever ends the bench.
//!
//! All endpoints are inside, at two addresses: the faulty one has an address of its own, and a filter on both ends of
//! the cable sends its packets, and only those, through `netem`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::scenario::Network;
use crate::stage::process::{Child, Programs};

/// How long the kernel may take to make it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The programs of iproute2 and util-linux that are needed, and where Debian puts those that a user's PATH leaves out.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// A cable into a namespace. Dropping it removes both.
#[derive(Debug)]
pub struct Cable {
    holder: Child,
    /// The end outside.
    outer: String,
    subnet: u8,
}

impl Cable {
    /// Makes a namespace and a cable into it.
    ///
    /// # Errors
    /// When the machine does not allow it, with what it said.
    pub fn lay(programs: &Programs, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let words = ["--net", "sleep", "infinity"].map(OsString::from);
        let holder = Child::start(programs, "network", &find("unshare")?, &words, folder)?;
        let number = std::process::id() % 250;
        let mut cable = Self {
            holder,
            outer: format!("fsb{number}"),
            subnet: u8::try_from(number).unwrap_or_default() + 1,
        };
        let own = std::fs::read_link("/proc/self/ns/net").context("this system has no network namespaces")?;
        let namespace = cable.namespace();
        cable.holder.wait_until(PATIENCE, || {
            std::fs::read_link(&namespace).is_ok_and(|inside| inside != own)
        })?;
        cable.connect()?;
        // Not every kernel has netem, and better now than when everybody has been started.
        cable.impair(&Network::default())?;
        cable.repair()?;
        Ok(cable)
    }

    /// Where the namespace can be entered.
    fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// Address of the endpoints inside.
    pub fn address(&self, faulty: bool) -> IpAddr {
        Ipv4Addr::new(10, 213, self.subnet, if faulty { 3 } else { 2 }).into()
    }

    /// What to put before a command so that it runs inside.
    ///
    /// # Errors
    /// When `nsenter` is missing.
    pub fn inside(&self) -> Result<Vec<OsString>> {
        let mut net = OsString::from("--net=");
        net.push(self.namespace());
        Ok(vec![find("nsenter")?.into(), net, "--".into()])
    }

    fn connect(&self) -> Result<()> {
        let (outer, pid, subnet) = (&self.outer, self.holder.id(), self.subnet);
        let outside = [
            format!("link add {outer} type veth peer name inner netns {pid}"),
            format!("addr add 10.213.{subnet}.1/24 dev {outer}"),
            format!("link set {outer} up"),
        ];
        let inside = [
            "link set lo up".to_owned(),
            format!("addr add 10.213.{subnet}.2/24 dev inner"),
            format!("addr add 10.213.{subnet}.3/24 dev inner"),
            "link set inner up".to_owned(),
        ];
        outside
            .iter()
            .try_for_each(|words| self.order(false, "ip", words))?;
        inside.iter().try_for_each(|words| self.order(true, "ip", words))
    }

    /// From now on, packets to and from the faulty endpoint fare like this.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn impair(&self, network: &Network) -> Result<()> {
        let faulty = self.address(true);
        let (delay, jitter) = (network.delay.as_micros(), network.jitter.as_micros());
        let netem = format!("netem delay {delay}us {jitter}us loss {}%", network.loss * 100.0);
        for (inside, device, field) in [(false, self.outer.as_str(), "dst"), (true, "inner", "src")] {
            // Three bands as usual, and one more that nothing goes to by itself.
            let orders = [
                format!("qdisc add dev {device} root handle 1: prio bands 4"),
                format!("qdisc add dev {device} parent 1:4 handle 40: {netem}"),
                format!(
                    "filter add dev {device} parent 1: protocol ip u32 match ip {field} {faulty}/32 flowid 1:4"
                ),
            ];
            orders
                .iter()
                .try_for_each(|words| self.order(inside, "tc", words))?;
        }
        Ok(())
    }

    /// All is well again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn repair(&self) -> Result<()> {
        self.order(false, "tc", &format!("qdisc del dev {} root", self.outer))?;
        self.order(true, "tc", "qdisc del dev inner root")
    }

    fn order(&self, inside: bool, program: &str, words: &str) -> Result<()> {
        let mut whole = if inside { self.inside()? } else { Vec::new() };
        whole.push(find(program)?.into());
        whole.extend(words.split_ascii_whitespace().map(OsString::from));
        let (first, rest) = whole.split_first().context("no program to run")?;
        let told = Command::new(first)
            .args(rest)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{program} does not run"))?;
        if !told.status.success() {
            let why = String::from_utf8_lossy(&told.stderr).trim().to_owned();
            bail!("{program} {words}: {why}");
        }
        Ok(())
    }
}

fn find(program: &str) -> Result<PathBuf> {
    let files = FOLDERS.map(|folder| Path::new(folder).join(program));
    files
        .into_iter()
        .find(|file| file.is_file())
        .with_context(|| format!("{program} is not installed"))
}
