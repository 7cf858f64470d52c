//! What workers are and under what they run, by generation. A reload that fails must change
//! nothing, also for those of the old generation that are started again after it: they are
//! what they were, and only who comes with a newer generation is made by the new recipe.

use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;

use super::{Conditions, Program};

/// How workers are made.
#[derive(Clone)]
pub struct Recipe {
    /// The service that they work for.
    pub service: String,
    /// What a worker is.
    pub program: Rc<RefCell<Program>>,
    /// What workers alone run under.
    pub conditions: Conditions,
    /// The complete environment of an executed program, except for the variables that
    /// name the worker and its backend: those are added.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether the program is executed once, as a mold, and forks its workers.
    pub molded: bool,
}

impl std::fmt::Debug for Recipe {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the environment: secrets live there.
        let Self { service, program, conditions, molded, .. } = self;
        out.debug_struct("Recipe")
            .field("service", service)
            .field("program", program)
            .field("conditions", conditions)
            .field("molded", molded)
            .finish_non_exhaustive()
    }
}

/// The recipe of the generation that serves, and perhaps one for what comes.
#[derive(Debug)]
pub(super) struct Recipes {
    serving: Recipe,
    next: Option<Next>,
    /// The newest generation of which a worker was started.
    last_generation: u32,
}

#[derive(Debug)]
struct Next {
    recipe: Recipe,
    /// The first generation made by it, as soon as one was.
    since: Option<u32>,
}

impl Recipes {
    pub(super) fn new(recipe: Recipe) -> Self {
        Self { serving: recipe, next: None, last_generation: 0 }
    }

    /// Workers of this generation live already.
    pub(super) fn know(&mut self, generation: u32) {
        self.last_generation = self.last_generation.max(generation);
    }

    /// Generations that begin from here on are made by this one.
    pub(super) fn stage(&mut self, recipe: Recipe) {
        self.next = Some(Next { recipe, since: None });
    }

    /// The generation serves alone: nobody is made by an older recipe any more.
    pub(super) fn settle(&mut self, generation: u32) {
        // With nobody to renew, none of it was ever started.
        let is_made = |next: &mut Next| {
            next.since.map_or(self.last_generation < generation, |since| since <= generation)
        };
        if let Some(next) = self.next.take_if(is_made) {
            self.serving = next.recipe;
        }
        self.know(generation);
    }

    /// How a worker of this generation is made.
    pub(super) fn of(&mut self, generation: u32) -> &Recipe {
        let is_new = self.last_generation < generation;
        self.know(generation);
        if let Some(next) = &mut self.next
            && is_new
        {
            next.since.get_or_insert(generation);
        }
        match &self.next {
            Some(Next { recipe, since: Some(since) }) if *since <= generation => recipe,
            Some(_) | None => &self.serving,
        }
    }

    /// What holds for everything that is no worker.
    pub(super) fn serving(&self) -> &Recipe {
        &self.serving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(name: &str) -> Recipe {
        let program = Rc::new(RefCell::new(Program::Exec { argv: vec![name.into()] }));
        let (service, conditions) = ("default".into(), Conditions::default());
        Recipe { service, program, conditions, environment: Vec::new(), molded: false }
    }

    fn made(recipes: &mut Recipes, generation: u32) -> String {
        let program = Rc::clone(&recipes.of(generation).program);
        let Program::Exec { argv } = &*program.borrow() else { panic!("a program") };
        argv[0].to_str().unwrap().to_owned()
    }

    #[test]
    fn only_a_newer_generation_is_made_by_the_new_recipe() {
        let mut recipes = Recipes::new(recipe("old"));
        assert_eq!(made(&mut recipes, 0), "old");
        recipes.stage(recipe("new"));
        assert_eq!(made(&mut recipes, 0), "old", "one that died in between");
        assert_eq!(made(&mut recipes, 1), "new");
        assert_eq!(made(&mut recipes, 0), "old", "the reload is not done");
    }

    #[test]
    fn after_a_failed_reload_the_old_recipe_stays_until_another_succeeds() {
        let mut recipes = Recipes::new(recipe("old"));
        recipes.stage(recipe("broken"));
        assert_eq!(made(&mut recipes, 1), "broken");
        assert_eq!(made(&mut recipes, 0), "old");
        recipes.stage(recipe("mended"));
        assert_eq!(made(&mut recipes, 0), "old");
        assert_eq!(made(&mut recipes, 2), "mended");
        recipes.settle(2);
        recipes.stage(recipe("later"));
        assert_eq!(made(&mut recipes, 2), "mended");
        assert_eq!(made(&mut recipes, 3), "later");
    }

    #[test]
    fn a_reload_of_nobody_settles_too() {
        let mut recipes = Recipes::new(recipe("old"));
        recipes.stage(recipe("new"));
        recipes.settle(1);
        assert_eq!(made(&mut recipes, 1), "new");
        assert_eq!(made(&mut recipes, 0), "new");
    }
}
