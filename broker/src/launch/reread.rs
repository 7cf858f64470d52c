//! HUP: the settings are read again. The log tells what has changed, what has not, and why;
//! parent, router and workers get what concerns them.

use std::cell::RefCell;
use std::rc::Rc;

use tracing::{error, info, warn};

use super::router_setup;
use crate::config::{Change, Config, Difference, Effect, InForce, ServiceConfig};
use crate::logging;
use crate::parent::{Changed, Recipe, Reread};
use crate::router;

/// How a worker program is made, where it can be another one.
pub(super) type Maker = fn(ServiceConfig) -> crate::parent::Program;

/// What there is to read again, and to be changed by it.
pub(super) struct Rereader {
    pub(super) in_force: InForce,
    /// What the next router is born with.
    pub(super) standing: Rc<RefCell<router::Setup>>,
    /// How workers are made at present.
    pub(super) recipe: Recipe,
    /// `None` if the program is this one's own handler.
    pub(super) maker: Option<Maker>,
}

impl Rereader {
    /// Reads the file again. A file that cannot be used changes nothing.
    pub(super) fn read(&mut self) -> Reread {
        if !self.in_force.has_file() {
            return Reread::Same;
        }
        let before = self.in_force.config.clone();
        let differences = match self.in_force.read_again() {
            Ok(differences) => differences,
            Err(error) => {
                error!(%error, "the configuration cannot be used: nothing is changed, and nothing reloaded");
                return Reread::Refused;
            }
        };
        if differences.is_empty() {
            info!("configuration read again: nothing has changed");
        }
        differences.iter().for_each(tell);
        if before == self.in_force.config { Reread::Same } else { self.change(&before) }
    }

    fn change(&mut self, before: &Config) -> Reread {
        let config = &self.in_force.config;
        logging::set_level(config.log.level);
        let recipe = self.next_recipe(&before.default, &config.default);
        let setup = {
            let mut standing = self.standing.borrow_mut();
            *standing = router_setup(config, &standing.frontend, &standing.backend);
            standing.clone()
        };
        if let Some(recipe) = &recipe {
            self.recipe = recipe.clone();
        }
        Reread::Changed(Box::new(Changed {
            recipe,
            hooks: config.hooks.clone(),
            drain: config.default.core.drain,
            settings_text: self.in_force.text(),
            for_router: router::encode_configuration(&setup, config.log.level),
        }))
    }

    /// What workers of the next generation are made by, if that is something else.
    fn next_recipe(&self, before: &ServiceConfig, service: &ServiceConfig) -> Option<Recipe> {
        let stays = before.program == service.program
            && before.worker_environment == service.worker_environment
            && before.conditions == service.conditions
            && before.core.body_limit == service.core.body_limit;
        if stays {
            return None;
        }
        let program = match self.maker {
            Some(make) => Rc::new(RefCell::new(make(service.clone()))),
            None => Rc::clone(&self.recipe.program),
        };
        let (conditions, environment) = (service.conditions.clone(), service.worker_environment.clone());
        Some(Recipe { program, conditions, environment })
    }
}

fn tell(Difference { service, key, old, new, effect }: &Difference) {
    let (old, new) = (old.as_deref(), new.as_deref());
    match effect {
        Effect::InForce => info!(service, key, old, new, "configuration changed"),
        Effect::Needs(change) => {
            let needs = match change {
                Change::AtOnce | Change::Upgrade => "an upgrade",
                Change::Restart => "a restart",
            };
            warn!(service, key, old, new, needs, "configuration changed, and not in force yet");
        }
        Effect::Overridden(by) => {
            info!(service, key, old, new, %by, "the file has changed, and is overridden");
        }
    }
}
