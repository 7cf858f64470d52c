//! Locks of one process, for the tests of programs that lock: one that keeps them in
//! memory, and one that grants none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backend::{Backend, Claim, Inspected, Lease};
use crate::clock::{Clock, Timestamp};
use crate::doctor::Examined;
use crate::error::LockError;
use crate::server::Seen;
use crate::token;
use crate::validity::{DriftFactor, validity};

#[derive(Debug)]
pub(crate) struct Memory {
    clock: Arc<dyn Clock>,
    drift: DriftFactor,
    resources: Mutex<BTreeMap<String, Resource>>,
}

#[derive(Debug, Default)]
struct Resource {
    holder: Option<Holder>,
    fence: u64,
}

#[derive(Debug)]
struct Holder {
    value: String,
    ends: Timestamp,
}

impl Memory {
    pub(crate) fn new(clock: Arc<dyn Clock>, drift: DriftFactor) -> Self {
        Self { clock, drift, resources: Mutex::default() }
    }

    fn resources(&self) -> MutexGuard<'_, BTreeMap<String, Resource>> {
        let now = self.clock.now();
        let mut resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in resources.values_mut() {
            resource.holder.take_if(|holder| holder.ends <= now);
        }
        resources
    }

    fn lease(&self, claim: Claim<'_>) -> Result<Lease, LockError> {
        let until = |validity| Lease { validity, until: self.clock.now() + validity };
        validity(claim.ttl, Duration::ZERO, self.drift)
            .map(until)
            .ok_or_else(|| LockError::Expired { resource: claim.resource.to_owned() })
    }

    fn hold(&self, claim: Claim<'_>) -> Holder {
        Holder { value: claim.value.to_owned(), ends: self.clock.now() + claim.ttl }
    }
}

impl Backend for Memory {
    fn take(&self, claim: Claim<'_>) -> Result<(Lease, u64), LockError> {
        let mut resources = self.resources();
        let resource = resources.entry(claim.resource.to_owned()).or_default();
        if let Some(holder) = resource.holder.as_ref().filter(|holder| holder.value != claim.value) {
            let free_in = Some(holder.ends.since(self.clock.now()));
            return Err(LockError::Busy { resource: claim.resource.to_owned(), free_in });
        }
        let lease = self.lease(claim)?;
        resource.fence =
            token::next([resource.fence], self.clock.unix_ms()).ok_or(LockError::TokensExhausted)?;
        resource.holder = Some(self.hold(claim));
        Ok((lease, resource.fence))
    }

    fn extend(&self, claim: Claim<'_>) -> Result<Lease, LockError> {
        let mut resources = self.resources();
        let holder = resources.get_mut(claim.resource).and_then(|resource| resource.holder.as_mut());
        match holder.filter(|holder| holder.value == claim.value) {
            Some(holder) => {
                let lease = self.lease(claim)?;
                *holder = self.hold(claim);
                Ok(lease)
            }
            None => Err(LockError::Expired { resource: claim.resource.to_owned() }),
        }
    }

    fn release(&self, resource: &str, value: &str) -> Result<(), LockError> {
        if let Some(resource) = self.resources().get_mut(resource) {
            resource.holder.take_if(|holder| holder.value == value);
        }
        Ok(())
    }

    fn free(&self, resource: &str) -> Result<(), LockError> {
        if let Some(resource) = self.resources().get_mut(resource) {
            resource.holder = None;
        }
        Ok(())
    }

    fn look(&self, resource: &str) -> Vec<Inspected> {
        let resources = self.resources();
        let found = resources.get(resource);
        let holder = found.and_then(|found| found.holder.as_ref());
        let seen = Seen {
            value: holder.map(|holder| holder.value.clone()),
            life: holder.map(|holder| holder.ends.since(self.clock.now())),
            fence: found.map_or(0, |found| found.fence),
        };
        vec![(self.describe(), Ok(seen))]
    }

    fn life(&self, resource: &str, value: Option<&str>) -> Result<Option<Duration>, LockError> {
        let resources = self.resources();
        let holder = resources.get(resource).and_then(|found| found.holder.as_ref());
        let holder = holder.filter(|holder| value.is_none_or(|value| value == holder.value));
        Ok(holder.map(|holder| holder.ends.since(self.clock.now())))
    }

    fn examine(&self) -> Vec<Examined> {
        Vec::new()
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

/// Somebody else always holds everything.
#[derive(Debug)]
pub(crate) struct Deny;

impl Backend for Deny {
    fn take(&self, claim: Claim<'_>) -> Result<(Lease, u64), LockError> {
        Err(LockError::Busy { resource: claim.resource.to_owned(), free_in: None })
    }

    fn extend(&self, claim: Claim<'_>) -> Result<Lease, LockError> {
        Err(LockError::Expired { resource: claim.resource.to_owned() })
    }

    fn release(&self, _resource: &str, _value: &str) -> Result<(), LockError> {
        Ok(())
    }

    fn free(&self, _resource: &str) -> Result<(), LockError> {
        Ok(())
    }

    fn look(&self, _resource: &str) -> Vec<Inspected> {
        let seen = Seen { value: Some("somebody else".to_owned()), life: None, fence: 0 };
        vec![(self.describe(), Ok(seen))]
    }

    fn life(&self, _resource: &str, value: Option<&str>) -> Result<Option<Duration>, LockError> {
        Ok(value.is_none().then_some(Duration::MAX))
    }

    fn examine(&self) -> Vec<Examined> {
        Vec::new()
    }

    fn describe(&self) -> String {
        "deny".to_owned()
    }
}
