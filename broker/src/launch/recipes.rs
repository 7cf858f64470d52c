//! What the parent starts as workers: programs, and our own adapters and handlers around them.

use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;

use hornpipe_worker::{Context, Handler, Job, ServeError, Stopped};
use tracing::error;

use super::{PANICKED, Work, adapters, new_worker};
use crate::allocator;
use crate::callbacks::{self, Callback, NewWorker};
use crate::config::{Config, ProgramKind, ServiceConfig};
use crate::parent::{Program, Recipe, WorkerProcess, title};

/// What the parent starts as workers, in the order in which the router counts services. A
/// handler of the program's own is the default service's.
pub(super) fn recipes(
    config: &Config,
    handler: Option<Work>,
    after_fork: Callback<NewWorker>,
) -> Vec<Recipe> {
    let mut recipes = vec![recipe(&config.default, program(config.default.clone(), handler, after_fork))];
    let further = config.further.iter().map(|service| recipe(service, program(service.clone(), None, None)));
    recipes.extend(further);
    recipes
}

pub(super) fn recipe(service: &ServiceConfig, program: Program) -> Recipe {
    Recipe {
        service: service.name.clone(),
        program: Rc::new(RefCell::new(program)),
        conditions: service.conditions.clone(),
        environment: service.worker_environment.clone(),
        molded: service.molded,
    }
}

/// What the parent starts as a worker.
pub(super) fn program(
    service: ServiceConfig,
    handler: Option<Work>,
    mut after_fork: Callback<NewWorker>,
) -> Program {
    let search_path = service.search_path;
    let environment = service.worker_environment;
    let output_limit = usize::try_from(service.core.body_limit).unwrap_or(usize::MAX);
    let message_limit = service.core.body_limit.saturating_mul(2).saturating_add(64 * 1024);
    let mut framing = hornpipe_worker::Framing::Line;
    let mut work = match (handler, service.program) {
        (Some(work), _) => work,
        (None, ProgramKind::Exec(argv)) => return Program::Exec { argv },
        (None, ProgramKind::None) => return Program::None,
        (None, ProgramKind::Echo) => handled(hornpipe_worker::echo),
        (None, ProgramKind::Each(argv)) => {
            adapter(argv, |settings, argv, title| hornpipe_worker::each(settings, argv, titled(title)))
        }
        (None, ProgramKind::Lines { argv, framing: chosen }) => {
            framing = adapters::framing(chosen);
            adapter(argv, |settings, argv, title| hornpipe_worker::lines(settings, argv, titled(title)))
        }
    };
    Program::Fork(Box::new(move |process: WorkerProcess| {
        let title = format!("hornpipe: worker {}", process.place.slot);
        title::set(&format!("{title} [starting]"));
        allocator::keep_for_next_bodies();
        if !callbacks::call("after_fork", &mut after_fork, &new_worker(&process)) {
            return PANICKED;
        }
        let mut settings = hornpipe_worker::Settings::new(process.backend.as_str());
        settings.search_path.clone_from(&search_path);
        settings.environment = Some(adapters::environment(&environment, &process));
        settings.output_limit = output_limit;
        // A body, its head and its frames.
        settings.message_limit = message_limit;
        settings.framing = framing;
        work(&settings, &title)
    }))
}

/// Work that a handler does, in this process.
pub(crate) fn handled(mut handler: impl Handler + 'static) -> Work {
    Box::new(move |settings, title| {
        let handler = |job: &Job, context: &mut Context<'_>| handler.handle(job, context);
        exit_code(hornpipe_worker::serve(settings, handler, titled(title)))
    })
}

type Adapter = fn(&hornpipe_worker::Settings, &[OsString], &str) -> Result<Stopped, ServeError>;

fn adapter(argv: Vec<OsString>, serve: Adapter) -> Work {
    Box::new(move |settings, title| exit_code(serve(settings, &argv, title)))
}

/// Shows the worker's state in its title.
fn titled(title: &str) -> impl FnMut(hornpipe_worker::State) {
    let mut text = String::new();
    let title = title.to_owned();
    move |state| {
        text.clear();
        // Twice for each request, so the text keeps its memory.
        text.extend([&*title, " [", state.as_str(), "]"]);
        title::set(&text);
    }
}

fn exit_code(result: Result<Stopped, ServeError>) -> u8 {
    match result {
        Ok(Stopped::WithProgram { exit_code }) => exit_code,
        Ok(_) => 0,
        Err(error) => {
            error!(%error, "cannot work");
            1
        }
    }
}
