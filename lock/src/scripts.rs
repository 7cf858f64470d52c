//! What runs on a server, in one step each. The key has the name of the resource, as other
//! Redlock clients have it, so that they and we exclude each other.

use std::sync::LazyLock;

use redis::Script;

/// A key for a resource's greatest confirmed token. A cluster keeps it beside the lock.
pub(crate) fn fence_key(resource: &str) -> String {
    format!("{{{resource}}}{FENCE}")
}

/// Names of resources must not end so: it would be somebody's fence.
pub(crate) const FENCE: &str = ":fence";

/// Fences outlive the locks they order by so much.
pub(crate) const FENCE_LIFE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// KEYS: lock, fence. ARGV: value, time to live, whether a free lock may be taken.
/// Gives 1 and the fence, or 0, the remaining life and the holder's value.
pub(crate) static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local holder = redis.call('GET', KEYS[1])
        if holder == ARGV[1] or (holder == false and ARGV[3] == 'yes') then
            redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
            return {1, redis.call('GET', KEYS[2]) or '0', ''}
        end
        return {0, tostring(redis.call('PTTL', KEYS[1])), holder or ''}",
    )
});

/// KEYS: lock, fence. ARGV: value, token, life of the fence. Gives 1 if the lock is still
/// held. Numbers of Lua are exact up to 2^53 only, so tokens are compared as text.
pub(crate) static CONFIRM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        local fence = redis.call('GET', KEYS[2]) or '0'
        if #fence < #ARGV[2] or (#fence == #ARGV[2] and fence < ARGV[2]) then fence = ARGV[2] end
        redis.call('SET', KEYS[2], fence, 'PX', ARGV[3])
        return 1",
    )
});

/// KEYS: lock. ARGV: value. Gives 1 if it was held.
pub(crate) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
    )
});

/// KEYS: lock, fence. Gives the holder's value, the remaining life, and the fence.
pub(crate) static LOOK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "return {redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[2]) or '0'}",
    )
});
