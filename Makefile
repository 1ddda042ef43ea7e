# The front desk: every command has its line here, its logic is in ladder/. `make` alone prints the help.
.DEFAULT_GOAL := help
LADDER := @ladder/bootstrap && .venv/bin/python -m ladder
# A switch is on with 1, and with nothing else.
on = $(if $(filter 1,$($(1))),$(2),$(if $($(1)),$(error $(1)=$($(1)): it is 1, or left out)))
TEST := @ladder/bootstrap tests/requirements.txt && .venv/bin/python -m coverage run -m pytest

##@ Climb
up: ## STAGE=n        bring the site up on rung n: 0 simple, 1 distributed, 2 secured, 3 scaled
	$(LADDER) up
down: ##                take it down; every message is kept
	$(LADDER) down
wipe: ## [NODE=name]    take it down and remove the data with it; NODE: that database alone loses its disk
	$(LADDER) wipe
diff: ## STAGE=n        what rung n adds to the one before
	$(LADDER) diff
doctor: ##                is this machine ready? Checks, changes nothing
	$(LADDER) doctor

##@ Look
open: ##                the site in a browser, with the name mapped
	$(LADDER) open
hosts: ##                the line for your machine's hosts file
	$(LADDER) hosts
ps: ##                servers, zones, roles, health
	$(LADDER) ps
logs: ## [NODE=name]    what the servers say; FOLLOW=1 goes on; REQUEST=id: one request through all of them
	$(LADDER) logs $(call on,FOLLOW,--follow)
lb: ##                the balancer: servers, state, sessions, share of requests
	$(LADDER) lb
vip: ##                which of two balancers holds the address that they share
	$(LADDER) vip
qps: ##                requests a second of every layer, errors, times; live on a terminal
	$(LADDER) qps
alerts: ##                what is wrong now, and what has been told
	$(LADDER) alerts
firewall: ##                every rule, its packets; WATCH=1 shows drops as they happen
	$(LADDER) firewall $(call on,WATCH,--watch)
wire: ## NODE=name      what passes there, as anybody reads it who sits on the wire
	$(LADDER) wire
certificate: ##                for whom, by whom, until when; RENEW=1: a new one, while the site runs
	$(LADDER) certificate $(call on,RENEW,--renew)
trust: ##                have this machine trust our authority; UNDO=1 ends it
	$(LADDER) trust $(call on,UNDO,--undo)
replication: ##                databases: who is what, GTIDs, lag
	$(LADDER) replication

##@ Break and heal (NODE: a container, server1, server2, primary, replica; of two balancers lb, standby)
kill: ## NODE=name      SIGKILL, as in a power cut
	$(LADDER) kill
stop: ## NODE=name      stop it cleanly: it may finish what it does
	$(LADDER) stop
start: ## NODE=name      start what was killed or stopped
	$(LADDER) start
crash: ## NODE=name      SIGKILL to the daemon's processes alone; PROCESS=name chooses others
	$(LADDER) crash
pause: ## NODE=name      freeze: it accepts connections and answers nothing
	$(LADDER) pause
unpause: ## NODE=name      thaw
	$(LADDER) unpause
partition: ## NODE=name      cut it off from all others, by packet filter; WAY=in or out: one way only; WAY=name: from that one
	$(LADDER) partition
slow: ## NODE=name      what it sends leaves DELAY=0.3 seconds later
	$(LADDER) slow
lose: ## NODE=name      of a hundred packets that it sends, PERCENT=10 are lost, by chance
	$(LADDER) lose
restart: ## NODE=name      stop it cleanly and start it again
	$(LADDER) restart
recreate: ## NODE=name      a new container in its place
	$(LADDER) recreate
power-cut: ##                SIGKILL to all containers at once
	$(LADDER) power-cut
deploy: ##                a new version of the application, one server after the other, each drained first
	$(LADDER) deploy
scale: ## WEB=n APP=n    from stage 3 on: so many web servers, so many application servers
	$(LADDER) scale
renew: ##                a new certificate for the site
	$(LADDER) renew
promote: ## [NODE=name]    the replica becomes the primary, the old one is fenced first; FORCE=1 may lose writes
	$(LADDER) promote $(call on,FORCE,--force)
reload: ##                the firewalls' policies, haproxy.cfg and nginx.conf, as they are now, into every server
	$(LADDER) reload
heal: ## [NODE=name]    undo every fault
	$(LADDER) heal

##@ Prove
test: ##                everything, in a stack of its own; ARGS=… goes to pytest
	$(TEST) $(ARGS)
	$(if $(ARGS),,@.venv/bin/python -m coverage report)
drill: ## FAULT="…"      steady visitors, a fault, its healing, and a verdict with a picture; READS, WRITES, SECONDS
	$(LADDER) drill
check: ## RECORD=file    the verdict of a drill's record, again
	$(LADDER) check
scoreboard: ## [STAGE=n]     every drill on every rung or one, in a stack of its own, into docs/scoreboard.md; RUNS=1
	$(LADDER) scoreboard
bench: ##                what each hop costs: pages a second, as ratios; on stage 3 also with 1, 2, 4 application servers
	$(LADDER) bench
lock: ##                lock the Python packages again, with hashes
	$(LADDER) lock

help:
	@awk 'BEGIN {FS = ": ## *"} /^##@ / {print "\n" substr($$0, 5)} /^[a-z-]+: ##/ {printf "  make %-12s %s\n", $$1, substr($$0, index($$0, "## ") + 3)}' Makefile

.PHONY: up down wipe diff doctor open hosts ps logs lb vip qps alerts firewall wire certificate trust replication \
	kill stop start crash pause unpause partition slow lose restart recreate power-cut deploy scale promote renew reload heal \
	test drill check scoreboard bench lock help
