"""What `MnesiaStore` has a node do: Erlang expressions, which the node parses and evaluates.

`MnesiaStore` binds the variables. Each runs inside `GUARD`, so that no value is read or written of a table whose
replicas went apart.
"""

from __future__ import annotations

__all__ = ["COMMIT", "GUARD", "LIST", "READ_PART", "SIZE", "STATE", "guarded"]

# `Known` are the replicas whose absence was looked into (`zarrcy.stores.mnesia_table`): each with whether the node is
# connected all the same, which it is after a partition.
GUARD = """
begin
    Replicas = lists:append([mnesia:table_info(Tab, Kind) || Kind <- [disc_copies, ram_copies, disc_only_copies]]),
    Running = mnesia:system_info(running_db_nodes),
    Away = [{Node, lists:member(Node, nodes())} || Node <- Replicas, not lists:member(Node, Running)],
    case Away =:= Known of
        true -> {ok, %s};
        false -> {away, Away}
    end
end.
"""


def guarded(program: str) -> str:
    """The program behind the guard."""
    return GUARD.replace("%s", program)


_DISCS = (
    "[Node || Node <- mnesia:table_info(Tab, disc_copies) ++ mnesia:table_info(Tab, disc_only_copies), "
    "lists:member(Node, Running)]"
)

# The replicas on disc that are there.
STATE = guarded(_DISCS)

SIZE = guarded(
    """mnesia:transaction(fun() ->
        case mnesia:read(Tab, Key) of [] -> none; [{_, _, Data}] -> byte_size(Data) end
    end)"""
)

# A version tells values of one key apart: nothing else may be stored beside a value that others write too. CRC-32 and
# phash2 (which is the same on all nodes and releases) together have 64 bits, and cost a fifth of erlang:md5.
_VERSION = "fun(Value) -> {byte_size(Value), erlang:crc32(Value), erlang:phash2(Value, 4294967296)} end"

# `Start` and `Stop` are those of a Python slice, with the atom none for None.
READ_PART = guarded(
    f"""mnesia:transaction(fun() ->
        case mnesia:read(Tab, Key) of
            [] -> none;
            [{{_, _, Data}}] ->
                N = byte_size(Data),
                Clip = fun(none, Default) -> Default;
                          (At, _) when At < 0 -> max(N + At, 0);
                          (At, _) -> min(At, N) end,
                From = Clip(Start, 0),
                To = Clip(Stop, N),
                Version = {_VERSION},
                {{case Versioned of true -> Version(Data); false -> none end,
                  binary:part(Data, From, max(To - From, 0))}}
        end
    end)"""
)

# The hash lets a transaction see later that no key came or went.
_KEYS = "lists:sort(mnesia:select(Tab, [{{Tab, {Id, '$1'}, '_'}, [], ['$1']}]))"
_HASH = "{length(Keys), erlang:phash2(Keys, 4294967296)}"

LIST = guarded(
    f"""mnesia:transaction(fun() ->
        Keys = {_KEYS},
        {{{_HASH}, Keys}}
    end)"""
)

# `Checks` are {Key, Version or none, kind of lock}; `Listed` the hash of all keys, or none. `Durable` waits until the
# log of every replica on disc is on the disc: a commit by itself is in the log's buffers only.
COMMIT = guarded(
    f"""begin
        Version = {_VERSION},
        Work = fun() ->
            lists:foreach(fun({{Key, Expected, Lock}}) ->
                Found = case mnesia:read(Tab, Key, Lock) of [] -> none; [{{_, _, Old}}] -> Version(Old) end,
                case Found =:= Expected of true -> ok; false -> mnesia:abort({{conflict, Key}}) end
            end, Checks),
            case Listed of
                none -> ok;
                _ ->
                    Keys = {_KEYS},
                    case {_HASH} =:= Listed of true -> ok; false -> mnesia:abort({{conflict, none}}) end
            end,
            lists:foreach(fun({{Key, New}}) -> mnesia:write(Tab, {{Tab, Key, New}}, write) end, Writes),
            lists:foreach(fun(Key) -> mnesia:delete(Tab, Key, write) end, Deletes),
            case Versioned of true -> [Version(New) || {{_, New}} <- Writes]; false -> [] end
        end,
        case Durable of
            false -> mnesia:transaction(Work);
            true ->
                Result = mnesia:sync_transaction(Work),
                case {{Result, {_DISCS}}} of
                    {{{{aborted, _}}, _}} -> Result;
                    {{_, []}} -> Result;
                    {{_, Discs}} ->
                        {{Synced, _}} = rpc:multicall(Discs, mnesia, sync_log, []),
                        case lists:all(fun(Answer) -> Answer =:= ok end, Synced) of
                            true -> Result;
                            false -> {{unsynced, Synced}}
                        end
                end
        end
    end"""
)
