"""The limit store in virtual time: the provider's own script, run by Lua, on data and a clock in memory.

A real server has a real clock, and a simulated day has millions of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from airflow_provider_amzbiz.client.limit_store import LimitStore, script
from airflow_provider_amzbiz.client.store_address import StoreAddress

try:
    # Not in every build of lupa, but three times as fast.
    import lupa.luajit21 as lua
except ImportError:
    import lupa.lua51 as lua

# The commands that the script uses, with their replies as Redis gives them to a script. Keys never expire.
_COMMANDS = """
local data, commands = {}, {}

local function of(key)
  data[key] = data[key] or {scores = {}, order = {}, hash = {}}
  return data[key]
end

local function is_before(set, one, other)
  local first, second = set.scores[one], set.scores[other]
  return first < second or (first == second and one < other)
end

-- The members are in order, so the first one that does not come before is the member itself.
local function index_of(set, member)
  local low, high = 1, #set.order + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_before(set, set.order[middle], member) then low = middle + 1 else high = middle end
  end
  return low
end

function commands.TIME()
  local microseconds = math.floor(clock() * 1e6 + 0.5)
  local seconds = math.floor(microseconds / 1e6)
  return {string.format('%.0f', seconds), string.format('%.0f', microseconds - seconds * 1e6)}
end

function commands.HMGET(key, ...)
  local found = {}
  for index, name in ipairs({...}) do found[index] = of(key).hash[name] or false end
  return found
end

function commands.HSET(key, ...)
  local given = {...}
  for index = 1, #given, 2 do of(key).hash[given[index]] = tostring(given[index + 1]) end
end

function commands.HGETALL(key)
  local found = {}
  for name, value in pairs(of(key).hash) do
    found[#found + 1] = name
    found[#found + 1] = value
  end
  return found
end

function commands.HDEL(key, name)
  of(key).hash[name] = nil
end

function commands.ZREM(key, member)
  local set = of(key)
  if set.scores[member] then
    table.remove(set.order, index_of(set, member))
    set.scores[member] = nil
  end
end

function commands.ZADD(key, score, member)
  commands.ZREM(key, member)
  local set = of(key)
  set.scores[member] = tonumber(score)
  table.insert(set.order, index_of(set, member), member)
end

function commands.ZRANK(key, member)
  local set = of(key)
  return set.scores[member] and index_of(set, member) - 1 or false
end

function commands.ZSCORE(key, member)
  local score = of(key).scores[member]
  return score and string.format('%.17g', score) or false
end

function commands.ZCARD(key)
  return #of(key).order
end

function commands.ZRANGEBYSCORE(key, lowest, highest)
  local set, found = of(key), {}
  for _, member in ipairs(set.order) do
    if set.scores[member] > tonumber(highest) then break end
    found[#found + 1] = member
  end
  return found
end

function commands.ZREVRANGE(key, first, last, with_scores)
  local set = of(key)
  local member = set.order[#set.order]
  return member and {member, string.format('%.17g', set.scores[member])} or {}
end

function commands.EXPIRE() end

redis = {call = function(name, ...) return commands[name](...) end}
"""


class ScriptServer(LimitStore):
    """A limit store without a server, by another clock.

    :param clock: Unix time.
    :ivar calls: how often the script ran.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(StoreAddress("simulated", "127.0.0.1"))
        self.calls = 0
        runtime = lua.LuaRuntime()
        runtime.globals()["clock"] = clock
        runtime.execute(_COMMANDS)
        self._script = runtime.eval(
            # The script turns its arguments into numbers itself, so they need not be strings as with a server.
            "function(key_count, ...)\n"
            "local given, KEYS, ARGV = {...}, {}, {}\n"
            "for index = 1, key_count do KEYS[index] = given[index] end\n"
            "for index = key_count + 1, #given do ARGV[index - key_count] = given[index] end\n"
            f"return unpack((function() {script()} end)())\n"
            "end"
        )

    def _run(self, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        self.calls += 1
        return self._script(len(keys), *keys, *arguments)
