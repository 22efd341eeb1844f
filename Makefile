MODULE_big = scalecache
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard $(srcdir)/src/*.c $(srcdir)/src/*/*.c)))
EXTENSION = scalecache
DATA = sql/scalecache--0.1.sql
PGFILEDESC = "scalecache - exact rollups, caching and index advice"

REGRESS = $(patsubst $(srcdir)/test/sql/%.sql,%,$(sort $(wildcard $(srcdir)/test/sql/*.sql)))
REGRESS_OPTS = --inputdir=$(srcdir)/test --outputdir=. --no-locale --encoding=UTF8 \
	--temp-instance=./tmp_check --temp-config=$(srcdir)/test/test.conf
ISOLATION = $(patsubst $(srcdir)/test/specs/%.spec,%,$(sort $(wildcard $(srcdir)/test/specs/*.spec)))
ISOLATION_OPTS = $(REGRESS_OPTS)

srcdir = .
PKG_CONFIG ?= pkg-config
PG_CFLAGS = -fno-semantic-interposition -fno-plt
PG_CPPFLAGS = -I$(srcdir)/src $(shell $(PKG_CONFIG) --cflags hiredis)
SHLIB_LINK = -Wl,-Bsymbolic $(shell $(PKG_CONFIG) --libs hiredis)
EXTRA_CLEAN = src/cache/library_text.h tmp_check results output_iso regression.diffs regression.out log

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

ifneq ($(MAJORVERSION),15)
$(error scalecache needs PostgreSQL 15, and "$(PG_CONFIG)" is of PostgreSQL $(VERSION))
endif

# The library for Redis as a C string
src/cache/library_text.h: $(srcdir)/src/cache/library.lua
	mkdir -p $(@D)
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $< >$@
src/cache/lua.o src/cache/lua.bc: src/cache/library_text.h
src/cache/lua.o src/cache/lua.bc: PG_CPPFLAGS += -Isrc/cache

# Any header may be included anywhere.
$(OBJS) $(OBJS:.o=.bc): $(wildcard $(srcdir)/src/*/*.h)
