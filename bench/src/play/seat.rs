//! A seat: one proxy with a farm of its own behind it, as processes, ready to play.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

use crate::client::FarmControl;
use crate::farm::EndpointSpec;
use crate::results::{Protocol, Setting};
use crate::rivals::{Contender, Found, Primary, Running, Site};
use crate::scenario::lessons::Lesson;
use crate::scenario::{Scenario, site};
use crate::stage::admin::Admin;
use crate::stage::network::Cable;
use crate::stage::ports;
use crate::stage::process::{Child, Programs};
use crate::stage::topology::{Pair, Topology};
use crate::stage::{FarmPlan, PATIENCE, start_farm, start_proxy};

/// One proxy and its farm. Dropping it ends both.
#[derive(Debug)]
pub struct Seat {
    /// Where users connect.
    pub users: SocketAddr,
    /// The farm's control.
    pub farm: FarmControl,
    /// Where the proxy shows what it thinks, if it does.
    pub admin: Option<Admin>,
    proxy: Proxy,
    endpoints: Child,
}

#[derive(Debug)]
enum Proxy {
    /// foreshade with a configuration that somebody wrote.
    Configured(Child),
    /// Whoever it is, configured from the scenario's site.
    Contender(Box<Running>),
}

/// What all seats of one performance have in common.
#[derive(Clone, Copy, Debug)]
pub struct House<'a> {
    /// The programs.
    pub programs: &'a Programs,
    /// What will be played.
    pub scenario: &'a Scenario,
    /// Of every farm.
    pub seed: u64,
    /// Where the endpoints are, if they are not on the loopback interface.
    pub cable: Option<&'a Cable>,
}

impl Seat {
    /// foreshade with `topology`, moved to free ports. Files go to `folder`.
    pub fn configured(house: House<'_>, topology: &Topology, folder: &Path) -> Result<Self> {
        let topology = topology.on_free_ports()?;
        let (farm, endpoints) = house.farm(topology.endpoints(), topology.control(), folder)?;
        let admin = Admin(topology.admin());
        let mut proxy = start_proxy(house.programs, &topology, folder)?;
        proxy.wait_until(PATIENCE, || admin.is_ready())?;
        Ok(Self {
            users: topology.users(),
            farm,
            admin: Some(admin),
            proxy: Proxy::Configured(proxy),
            endpoints,
        })
    }

    /// A contender. Files go to `folder`.
    pub fn contender(house: House<'_>, found: &Found, setting: Setting, folder: &Path) -> Result<Self> {
        let pairs = house.scenario.site.pairs();
        let standbys = site::standbys(&pairs);
        let mut free = ports::free(3 + pairs.len() + standbys.len())?.into_iter();
        let mut next = || free.next().context("a port is missing");
        let (listen, admin, control) = (next()?, next()?, next()?);
        let mut spec = |name: &str| -> Result<EndpointSpec> {
            let mut address = next()?;
            if let Some(cable) = house.cable {
                let faulty = pairs.get(site::faulty(&pairs));
                address.set_ip(cable.address(faulty.is_some_and(|pair| pair.primary == name)));
            }
            Ok(EndpointSpec {
                name: name.to_owned(),
                address,
            })
        };
        let primary = |pair: &Pair, address| Primary {
            name: pair.primary.clone(),
            address,
            standby: pair.shadow.clone(),
        };
        let primaries = pairs
            .iter()
            .map(|pair| Ok(primary(pair, spec(&pair.primary)?.address)))
            .collect::<Result<Vec<_>>>()?;
        let standbys = standbys
            .iter()
            .map(|name| spec(name))
            .collect::<Result<Vec<_>>>()?;
        let endpoints = primaries.iter().map(|primary| EndpointSpec {
            name: primary.name.clone(),
            address: primary.address,
        });
        let endpoints: Vec<_> = endpoints.chain(standbys.clone()).collect();
        let mut control = control;
        if let Some(cable) = house.cable {
            control.set_ip(cable.address(false));
        }
        let (farm, endpoints) = house.farm(&endpoints, control, folder)?;
        let site = Site {
            listen,
            admin,
            protocol: Protocol::Http1,
            workers: 1,
            primaries,
            standbys,
            tls: None,
            setting,
            capacity: house.scenario.service.cores as usize,
        };
        let running = found.start(house.programs, &site, &folder.join("proxy"))?;
        Ok(Self {
            users: listen,
            farm,
            admin: found.contender.is_ours().then_some(Admin(admin)),
            proxy: Proxy::Contender(Box::new(running)),
            endpoints,
        })
    }

    /// Fails if the proxy or the farm has ended.
    pub fn check(&mut self) -> Result<()> {
        self.endpoints.check()?;
        match &mut self.proxy {
            Proxy::Configured(child) => child.check(),
            Proxy::Contender(running) => running.check(),
        }
    }

    /// Tells the oracle what is wrong; whoever is none hears nothing.
    pub fn teach(&self, lesson: &Lesson) {
        if let Proxy::Contender(running) = &self.proxy
            && running.contender == Contender::Oracle
        {
            // An oracle that cannot be taught is gone, which the next look at it tells.
            let _ = running.teach(&lesson.teaching);
        }
    }
}

impl House<'_> {
    fn farm(
        &self,
        endpoints: &[EndpointSpec],
        control: SocketAddr,
        folder: &Path,
    ) -> Result<(FarmControl, Child)> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let plan = FarmPlan {
            endpoints,
            control,
            seed: self.seed,
            service: Some(self.scenario.service),
            inside: self
                .cable
                .map_or_else(|| Ok(Vec::<OsString>::new()), Cable::inside)?,
        };
        let farm = FarmControl(control);
        let mut child = start_farm(self.programs, &plan, folder)?;
        child.wait_until(PATIENCE, || farm.counts().is_ok())?;
        Ok((farm, child))
    }
}
