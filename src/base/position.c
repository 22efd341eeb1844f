/*
 * position.c: where in a text that the user gave as an argument an error is.
 */
#include "postgres.h"

#include "base/position.h"

/* Errors' positions are in a text of the user's, not in his command. */
void
sc_text_error_callback(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
}
