# SPDX-License-Identifier: MIT
"""sqlite3 with a large database in memory: insert, index, join, update, sort."""
NEEDS = ["sqlite3"]

PROGRAM = """
pragma cache_size = -1000000;
create table thing(id integer primary key, key integer, name text, note text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)
insert into thing select i, (i * 2654435761) %% 1000003, 'name ' || (i * 40503 %% 65537),
  hex(i * 2654435761) || hex(i * 97) || 'and some more to fill the page with words' from n;
create index by_key on thing(key);
create index by_name on thing(name, key);
update thing set note = note || key where id %% 7 = 0;
delete from thing where id %% 11 = 3;
select count(*), sum(key), sum(length(note)), min(note), max(note) from thing;
select name, count(*), sum(key) from thing group by name order by 3 desc, 1 limit 20;
select sum(a.id * 31 + b.id) from thing a join thing b on a.key = b.key and a.id < b.id;
select id, note from thing order by note desc limit 20;
pragma integrity_check;
"""


def run(t):
    rows = 2000000 if t.full else 250000
    path = t.input("script-%d" % rows, lambda file: file.write((PROGRAM % rows).encode()))
    return list(t.run(["sqlite3", ":memory:"], stdin=path))
