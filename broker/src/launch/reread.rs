//! HUP: the settings are read again. The log tells what has changed, what has not, and why;
//! parent, router and workers get what concerns them.

use std::cell::RefCell;
use std::rc::Rc;

use tracing::{error, info, warn};

use super::{recipes, router_setup};
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
    /// How workers of each service are made at present, the default one's first.
    pub(super) recipes: Vec<Recipe>,
    /// `None` if the default service's program is this one's own handler.
    pub(super) default_maker: Option<Maker>,
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
        let recipes = self.next_recipes(before, config);
        let setup = {
            let mut standing = self.standing.borrow_mut();
            *standing = router_setup(config, &standing.frontend, &standing.backend);
            standing.clone()
        };
        for (number, recipe) in &recipes {
            if let Some(known) = self.recipes.get_mut(*number) {
                *known = recipe.clone();
            }
        }
        Reread::Changed(Box::new(Changed {
            recipes,
            hooks: config.hooks.clone(),
            drain: config.default.core.drain,
            settings_text: self.in_force.text(),
            for_router: router::encode_configurations(&setup, config.log.level),
        }))
    }

    /// What workers of the next generation are made by, where that is something else.
    fn next_recipes(&self, before: &Config, config: &Config) -> Vec<(usize, Recipe)> {
        let services = |config: &Config| -> Vec<ServiceConfig> {
            std::iter::once(&config.default).chain(&config.further).cloned().collect()
        };
        let pairs = services(before).into_iter().zip(services(config)).enumerate();
        pairs
            .filter_map(|(number, (old, new))| Some((number, self.next_recipe(number, &old, &new)?)))
            .collect()
    }

    fn next_recipe(&self, number: usize, before: &ServiceConfig, service: &ServiceConfig) -> Option<Recipe> {
        let stays = before.program == service.program
            && before.worker_environment == service.worker_environment
            && before.conditions == service.conditions
            && before.molded == service.molded
            && before.core.body_limit == service.core.body_limit;
        let present = self.recipes.get(number).filter(|_present| !stays)?;
        let made = || recipes::recipe(service, recipes::program(service.clone(), None, None));
        Some(match (number, self.default_maker) {
            (0, None) => Recipe { program: Rc::clone(&present.program), ..made() },
            _ => made(),
        })
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
